// Puts the sections together: drawing, the theme, and what the controls do.

const KINDS = { islands, untangling, lines, heat, clouds, accuracy, sensitivity, study, survival, budget, filters, baselines, refit, thresholds };
const settings = {
  responsive: true,
  displayModeBar: false,
  doubleClick: "reset",
  scrollZoom: false, // the wheel scrolls the page
};

function draw(plots = document.querySelectorAll(".plot")) {
  for (const plot of plots) {
    if (!plot.clientWidth) continue; // in a hidden view: drawn when it is shown
    const { kind, index, part } = plot.dataset;
    const [traces, layout, setUp] = KINDS[kind](Number(index), part, plot.clientWidth);
    const first = !plot.classList.contains("js-plotly-plot");
    Plotly.react(plot, traces, layout, settings);
    if (first) setUp?.(plot);
  }
}

function showProfile(chosen) {
  for (const view of document.querySelectorAll("[data-view=profile]")) {
    view.hidden = view.dataset.index !== chosen;
    if (!view.hidden) continue;
    const index = Number(view.dataset.index);
    if (shown[index].timer !== null) stop(index);
    // A browser holds few WebGL scenes at a time.
    for (const plot of view.querySelectorAll("[data-kind=clouds].js-plotly-plot")) Plotly.purge(plot);
  }
}

/** On a phone a table that is wider than its box becomes one block a row, each cell with its column's name. */
function fitTables() {
  for (const table of document.querySelectorAll(".scroll > table")) {
    table.classList.remove("stacked");
    if (!narrow.matches || table.scrollWidth <= table.parentElement.clientWidth + 1) continue;
    const names = [...table.querySelectorAll("thead th")].map((head) => head.textContent.trim());
    for (const row of table.tBodies[0].rows) [...row.cells].forEach((cell, i) => (cell.dataset.name = names[i] ?? ""));
    table.classList.add("stacked");
  }
}

function nameTheme() {
  document.getElementById("theme-name").textContent = root.dataset.theme === "dark" ? "Light" : "Dark";
}

document.querySelectorAll("[data-key]").forEach(fillKey);
document.querySelectorAll("[data-time]").forEach(setUpTime);
document.addEventListener("keydown", pressed);
document.addEventListener("change", ({ target }) => {
  const { target: study, cloud, sum } = target.dataset;
  if (target.name === "profile") showProfile(target.value);
  if (target.name === "profile") fitTables();
  if (target.name === "profile" || study) draw();
  const view = target.closest("[data-view=profile]");
  if (cloud) shown[view.dataset.index].clouds[cloud] = Number(target.value);
  if (sum) shown[view.dataset.index].sum = Number(target.value);
  if (cloud || sum) draw(target.closest("figure").querySelectorAll(".plot"));
});
document.getElementById("theme").addEventListener("click", () => {
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  nameTheme();
  draw();
});
narrow.addEventListener("change", () => {
  fitTables();
  draw();
});
// A table in a closed part has no width yet.
document.querySelectorAll("details").forEach((part) => part.addEventListener("toggle", fitTables));
nameTheme();
sayFlat();
showProfile(document.querySelector("[name=profile]:checked")?.value ?? "0");
fitTables();
draw();
