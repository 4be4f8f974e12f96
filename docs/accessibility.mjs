// Every page of site/, and every file named, in headless Chromium, 1,300 and 420 px wide, light and dark:
//     node docs/accessibility.mjs [REPORT.html ...]      (make axe installs what it imports)
//
// Prints serious and critical findings of axe-core, errors on the console, requests to the outside, pages
// that are wider than the window, and code that scrolls sideways at 1,300 px. PICTURES=FOLDER keeps pictures,
// ONLY=howto looks at the pages with that in their path.
import { mkdirSync, readdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { basename, extname, resolve } from "node:path";

const tools = createRequire(resolve("build/axe/package.json"));
const puppeteer = tools("puppeteer-core");
const axe = await readFile(tools.resolve("axe-core/axe.min.js"), "utf8");
const kinds = { ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml" };
const reports = Object.fromEntries(process.argv.slice(2).map((path) => ["/report/" + basename(path), path]));

const server = createServer(async (request, response) => {
  const path = decodeURIComponent(new URL(request.url, "http://localhost").pathname);
  try {
    const body = await readFile(reports[path] ?? "site" + path.replace(/\/$/, "/index.html"));
    response.setHeader("content-type", kinds[extname(path) || ".html"] ?? "application/octet-stream");
    response.end(body);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
const home = `http://127.0.0.1:${server.address().port}`;
const pages = readdirSync("site", { recursive: true }).filter((path) => path.endsWith("index.html"))
  .map((path) => "/" + path.replace(/index\.html$/, "")).filter((path) => path.includes(process.env.ONLY ?? "")).sort();
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  // As with a mouse: the theme makes code that scrolls focusable only where something can hover.
  protocolTimeout: 900_000,
  args: ["--no-sandbox", "--enable-unsafe-swiftshader", "--blink-settings=primaryHoverType=2,availableHoverTypes=2"],
});

let found = 0;
for (const path of [...pages, ...Object.keys(reports)]) {
  for (const scheme of ["light", "dark"]) {
    for (const width of [1300, 420]) {
      const tell = (...words) => { found++; console.log(`${path} ${scheme} ${width}:`, ...words); };
      const tab = await (await browser.createBrowserContext()).newPage(); // the theme remembers a choice
      tab.on("pageerror", (error) => tell(error.message));
      tab.on("console", (line) => { if (line.type() === "error") tell(line.text(), line.location().url); });
      tab.on("request", (request) => {
        if (!request.url().startsWith(home) && !/^(data|blob):/.test(request.url())) tell("asks", request.url());
      });
      await tab.setViewport({ width, height: 900 });
      await tab.emulateMediaFeatures([
        { name: "prefers-color-scheme", value: scheme }, { name: "prefers-reduced-motion", value: "reduce" },
      ]);
      await tab.goto(home + path, { waitUntil: "networkidle0", timeout: 0 });
      await tab.evaluate(axe);
      const { violations } = await tab.evaluate(() => axe.run({ resultTypes: ["violations"] }));
      for (const { id, impact, nodes } of violations) {
        if (["serious", "critical"].includes(impact)) {
          tell(impact, id, nodes.length, nodes[0].target.join(" "), (nodes[0].any[0]?.message ?? "").slice(0, 160));
        }
      }
      const wide = await tab.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      if (wide > 0) tell(`${wide} px wider than the window`);
      const scrolls = (code) => code.filter((block) => block.scrollWidth > block.clientWidth + 1).map((block) => block.innerText.slice(0, 60));
      for (const text of width === 1300 ? await tab.$$eval("pre > code", scrolls) : []) tell("code scrolls:", text);
      if (process.env.PICTURES) {
        mkdirSync(process.env.PICTURES, { recursive: true });
        const name = path.replaceAll("/", "_") + `.${scheme}.${width}.png`;
        const height = await tab.evaluate(() => Math.min(document.documentElement.scrollHeight, 16_000)); // what Chromium draws
        await tab.screenshot({ path: `${process.env.PICTURES}/${name}`, clip: { x: 0, y: 0, width, height } });
      }
      await tab.browserContext().close();
    }
  }
}
await browser.close();
server.close();
console.log(`${pages.length} pages, ${Object.keys(reports).length} reports: ${found} findings`);
process.exitCode = Number(found > 0);
