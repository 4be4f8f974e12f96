// What every section uses. Plotly reads a little HTML in its texts, hence esc().

const data = JSON.parse(document.getElementById("plots").textContent);
const root = document.documentElement;
const narrow = matchMedia("(max-width: 36rem)");
const calm = matchMedia("(prefers-reduced-motion: reduce)");

// [Plotly's name in two and in three dimensions, the same as a path, drawn as an outline]
const SHAPES = [
  ["circle", "M8 3.2a4.8 4.8 0 1 0 .01 0z", false],
  ["square", "M3.8 3.8h8.4v8.4H3.8z", false],
  ["diamond", "M8 2l6 6-6 6-6-6z", false],
  ["cross", "M6 2h4v4h4v4h-4v4H6v-4H2V6h4z", false],
  ["x", "M3 5l2-2 3 3 3-3 2 2-3 3 3 3-2 2-3-3-3 3-2-2 3-3z", false],
  ["circle-open", "M8 3.2a4.8 4.8 0 1 0 .01 0z", true],
  ["square-open", "M3.8 3.8h8.4v8.4H3.8z", true],
  ["diamond-open", "M8 2.5l5.5 5.5-5.5 5.5-5.5-5.5z", true],
];
// Past eight, colours come again with other shapes.
const shape = (i) => SHAPES[(i + Math.floor(i / 8)) % 8];
const css = (name) => getComputedStyle(root).getPropertyValue(name).trim();
const colour = (i) => css(`--c${i % 8}`);

const esc = (text) =>
  String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const short = (text, most) =>
  esc(text.length > most ? `${text.slice(0, most / 2)}…${text.slice(1 - most / 2)}` : text);
const unique = (items) => [...new Set(items)];
// Not Math.max(...values): the values of a large net are more than a call takes arguments.
const largest = (values, start) => values.reduce((a, b) => Math.max(a, b), start);
const smallest = (values, start) => values.reduce((a, b) => Math.min(a, b), start);
const times = (n, make) => Array.from({ length: n }, (_, i) => make(i));
const known = (values) => values.filter((v) => v !== null && v !== undefined);

/** The class of a line or cloud of a profile, as the data call it. */
const trackName = (track, index) =>
  track === null ? "all classes" : (data.profiles[index].names[track] ?? `class ${track}`);
const epochName = (epoch) => (epoch === null ? "" : `, epoch ${epoch}`);
const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;

/** What the reader sees of each profile: the epoch as a position, classes switched off, chosen layers. */
const shown = data.profiles.map((plot) => {
  const last = (plot.clouds?.layers.length ?? 1) - 1;
  return {
    epoch: plot.epochs.length - 1,
    off: new Set(),
    clouds: [0, Math.floor(last / 2), last],
    sum: ((plot.lines ?? plot.heat)?.layers.length ?? 1) - 1,
    timer: null,
  };
});

// The page leaves out what an epoch repeats of the one before.
for (const { lines, heat } of data.profiles)
  for (const grid of [lines, heat])
    for (const of of grid ? [grid.points, grid.scale, grid.note] : [])
      of.forEach((values, e) => (of[e] = values ?? of[e - 1]));
