"use strict";
// Draws every .plot from the JSON in #plots. Plotly reads a little HTML in its texts, hence esc().
(() => {
  const data = JSON.parse(document.getElementById("plots").textContent);
  const root = document.documentElement;
  const narrow = matchMedia("(max-width: 36rem)");
  const SHAPES = [
    ["circle", "M8 3.2a4.8 4.8 0 1 0 .01 0z"],
    ["square", "M3.8 3.8h8.4v8.4H3.8z"],
    ["diamond", "M8 2l6 6-6 6-6-6z"],
    ["triangle-up", "M8 2.5l6 10.5H2z"],
    ["cross", "M6 2h4v4h4v4h-4v4H6v-4H2V6h4z"],
    ["triangle-down", "M8 13.5L2 3h12z"],
    ["pentagon", "M8 2l6 4.4-2.3 7H4.3L2 6.4z"],
    ["star", "M8 1.5l2 4.4 4.8.6-3.5 3.3.9 4.7L8 12.2l-4.2 2.3.9-4.7L1.2 6.5l4.8-.6z"],
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
  const shown = data.profiles.map((plot) => ({
    epoch: ((plot.lines ?? plot.heat)?.epochs.length ?? 1) - 1,
    off: new Set(),
  }));

  /** An axis for counts: linear, or log(1 + v) where they span more than 50 times, so that 0 has a place. */
  function countAxis(values) {
    const most = largest(values, 1);
    const log = most > 50 * Math.max(1, smallest(values, most));
    const map = (v) => (v === null ? null : log ? Math.log10(1 + v) : v);
    const ticks = log ? [0] : times(Math.floor(most / step(most)) + 1, (i) => i * step(most));
    for (let t = 1; log && t <= most; t *= 10) ticks.push(...[t, 3 * t].filter((v) => v <= most));
    return { most, log, map, top: map(most), ticks };
  }

  function step(most) {
    const unit = 10 ** Math.floor(Math.log10(most / 5));
    return Math.max(1, [1, 2, 5, 10].find((m) => m * unit >= most / 5) * unit);
  }

  const ticksOf = (axis) => ({
    tickvals: axis.ticks.map(axis.map),
    ticktext: axis.ticks.map((t) => t.toLocaleString("en")),
  });

  function frame(height, xaxis, yaxis, more = {}) {
    const both = {
      gridcolor: css("--line"),
      zeroline: false,
      automargin: true,
      tickfont: { size: 12 },
      fixedrange: narrow.matches,
    };
    return {
      height,
      margin: { l: 8, r: 12, t: 8, b: 8 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: css("--soft") },
      showlegend: false,
      hovermode: "closest",
      hoverlabel: {
        bgcolor: css("--page"),
        bordercolor: css("--line"),
        font: { color: css("--ink") },
        align: "left",
      },
      dragmode: narrow.matches ? false : "zoom", // a finger on a plot scrolls the page
      xaxis: { ...both, ...xaxis },
      yaxis: { ...both, ...yaxis },
      ...more,
    };
  }

  /** Tick labels of named things, thinned so that they do not overprint each other. */
  function names(list, room, most) {
    const every = Math.ceil(list.length / room);
    const at = times(list.length, (i) => i).filter((i) => i % every === 0);
    return { tickvals: at, ticktext: at.map((i) => short(list[i], most)) };
  }

  const cloudText = (grid, e, t, l) =>
    `n = ${grid.points[e][t][l]}, ${esc(grid.scales[grid.scale[e][t][l]] ?? "")}`;
  const trackName = (track) => (track === null ? "all classes" : `class ${track}`);
  const epochName = (epoch) => (epoch === null ? "" : `, epoch ${epoch}`);

  function lines(index, dim, width) {
    const grid = data.profiles[index].lines;
    const { epoch, off } = shown[index];
    const values = grid.betti[dim];
    const axis = countAxis(values.flat(2).filter((v) => v !== null)); // of all epochs: no jumps
    const pair = epoch === 0 ? [0] : [0, epoch];
    // Classes often agree: a little to the side each is seen.
    const apart = Math.min(0.07, 0.45 / grid.tracks.length);
    const aside = (t) => apart * (t - (grid.tracks.length - 1) / 2);
    const traces = pair.flatMap((e) =>
      grid.tracks.flatMap((track, t) => {
        if (off.has(t)) return [];
        const early = e === 0 && grid.epochs.length > 1;
        return {
          type: "scatter",
          mode: "lines+markers",
          x: grid.layers.map((_, l) => l + aside(t)),
          y: values[e][t].map(axis.map),
          hoverinfo: "text",
          text: grid.layers.map(
            (layer, l) =>
              `<b>${esc(layer)}</b><br>${esc(trackName(track))}${epochName(grid.epochs[e])}` +
              `<br>${dim} = ${values[e][t][l]}<br>${cloudText(grid, e, t, l)}`,
          ),
          opacity: early ? 0.75 : 1,
          line: { color: colour(t), width: early ? 1.5 : 2.5, dash: early ? "dash" : "solid" },
          marker: {
            symbol: shape(t)[0] + (early ? "-open" : ""),
            size: 8,
            color: colour(t),
          },
          cliponaxis: false,
        };
      }),
    );
    const y = { ...ticksOf(axis), range: [-0.03 * axis.top, 1.06 * axis.top] };
    if (axis.log) y.title = { text: "log scale", font: { size: 11 }, standoff: 4 };
    const room = Math.max(4, Math.floor(width / 34));
    const x = { ...names(grid.layers, room, 18), range: [-0.3, grid.layers.length - 0.7], showgrid: false };
    return [traces, frame(300, x, y)];
  }

  function heat(index, dim, width) {
    const grid = data.profiles[index].heat;
    const e = Math.min(shown[index].epoch, grid.epochs.length - 1);
    const values = grid.betti[dim];
    const axis = countAxis(values.flat(2).filter((v) => v !== null));
    const cells = (make) =>
      grid.layers.map((layer, l) => grid.tracks.map((track, t) => make(layer, l, track, t)));
    const trace = {
      type: "heatmap",
      x: grid.tracks,
      y: grid.layers.map((_, l) => l),
      z: cells((layer, l, track, t) => axis.map(values[e][t][l])),
      text: cells((layer, l, track, t) =>
        values[e][t][l] === null
          ? ""
          : `<b>${esc(layer)}</b><br>filter ${esc(track)}${epochName(grid.epochs[e])}` +
            `<br>${dim} = ${values[e][t][l]}<br>${cloudText(grid, e, t, l)}`,
      ),
      hoverinfo: "text",
      hoverongaps: false,
      colorscale: "Cividis",
      zmin: 0,
      zmax: axis.top,
      xgap: grid.tracks.length > 80 ? 0 : 1,
      ygap: 2,
      colorbar: { thickness: 10, outlinewidth: 0, ...ticksOf(axis) },
    };
    const y = { ...names(grid.layers, 40, width < 400 ? 10 : 18), autorange: "reversed", showgrid: false };
    const x = { title: { text: "filter", font: { size: 12 } }, showgrid: false };
    return [[trace], frame(110 + 26 * grid.layers.length, x, y)];
  }

  function study(index, _, width) {
    const chosen = document.querySelector(`[data-target="${index}"]:checked`);
    const everything = data.studies[index];
    const rows = everything.filter((row) => !chosen || row.target === Number(chosen.value));
    const activations = unique(everything.map((row) => row.activation));
    const cell = (row) => `${row.set}\n${row.activation}`;
    const found = rows.flatMap((row) => row.epochs.filter((e) => e !== null));
    const axis = countAxis(found);
    // The rows do not know the study's cap; what was not reached has a band of its own past every number.
    const band = [axis.top * 1.07, axis.top * 1.25];
    const censored = rows.some((row) => row.epochs.includes(null));
    const most = width < 500 ? 16 : 40;
    const traces = [];
    const labels = [];
    for (const set of unique(rows.map((row) => row.set))) {
      labels.push(`<b>${short(set, most)}</b>`);
      for (const row of rows.filter((r) => r.set === set)) {
        const y = labels.length;
        const alone = rows.filter((r) => cell(r) === cell(row)).length === 1;
        const settings = `rate ${row.learning_rate}, gain ${row.gain}`;
        labels.push(short(row.activation, most) + (alone ? "" : `<br>${settings}`));
        traces.push(...strip(row, y, settings, axis, band, activations.indexOf(row.activation)));
      }
    }
    const y = {
      tickvals: labels.map((_, i) => i),
      ticktext: labels,
      range: [labels.length - 0.4, -0.6],
      showgrid: false,
      tickfont: { size: 12, color: css("--ink") },
    };
    const x = {
      ...ticksOf(axis),
      range: [-0.02 * axis.top, censored ? band[1] : 1.04 * axis.top],
      title: { text: axis.log ? "epochs (log scale)" : "epochs", font: { size: 12 } },
    };
    const more = censored ? notReached(band) : {};
    return [traces, frame(80 + 40 * labels.length, x, y, more)];
  }

  function strip(row, y, settings, axis, band, i) {
    const seeds = row.epochs.map((epoch, seed) => ({ epoch, seed }));
    const spread = (j, n) => y + (n < 2 ? 0 : (j / (n - 1) - 0.5) * 0.66);
    const head = `<b>${esc(row.set)}, ${esc(row.activation)}</b><br>${settings}`;
    const marks = (of, x, symbol, label) => ({
      type: "scatter",
      mode: "markers",
      x: of.map(x),
      y: of.map(({ seed }) => spread(seed, seeds.length)),
      text: of.map((s) => `${head}<br>seed ${s.seed}: ${label(s)}`),
      hoverinfo: "text",
      marker: { symbol, size: 9, color: colour(i), line: { width: symbol.endsWith("open") ? 2 : 0 } },
      cliponaxis: false,
    });
    const done = seeds.filter((s) => s.epoch !== null);
    const open = seeds.filter((s) => s.epoch === null);
    const across = (_, j) => band[0] + ((band[1] - band[0]) * (j + 0.7)) / (open.length + 0.4);
    const traces = [
      marks(done, (s) => axis.map(s.epoch), shape(i)[0], (s) => `${s.epoch} epochs`),
      marks(open, across, "triangle-right-open", () => "not reached"),
    ];
    if (row.median !== null)
      traces.push({
        type: "scatter",
        mode: "markers",
        x: [axis.map(row.median)],
        y: [y],
        text: [`${head}<br>median ${row.median} epochs`],
        hoverinfo: "text",
        marker: { symbol: "line-ns-open", size: 28, color: css("--ink"), line: { width: 2.5 } },
      });
    return traces;
  }

  const notReached = (band) => ({
    shapes: [
      {
        type: "rect",
        x0: band[0],
        x1: band[1],
        y0: 0,
        y1: 1,
        yref: "paper",
        fillcolor: css("--line"),
        opacity: 0.5,
        line: { width: 0 },
        layer: "below",
      },
    ],
    annotations: [
      {
        text: "not reached",
        x: band[1],
        xanchor: "right",
        y: 1,
        yref: "paper",
        yanchor: "top",
        showarrow: false,
        font: { size: 12, color: css("--soft") },
      },
    ],
  });

  function filters(index, _, width) {
    const plot = data.filters_of[index];
    const axis = scoreAxis(plot.layers.flatMap((layer) => layer.scores).filter((v) => v !== null));
    const gap = Math.max(1, plot.layers.reduce((n, layer) => n + layer.scores.length, 0) / 40);
    const ticks = { tickvals: [], ticktext: [] };
    const shapes = [];
    const marks = [];
    let start = 0;
    for (const layer of plot.layers) {
      marks.push(...layer.scores.map((_, i) => filterMark(layer, i, start, axis)));
      const end = start + layer.scores.length - 1;
      ticks.tickvals.push((start + end) / 2);
      ticks.ticktext.push(short(layer.name, width < 500 ? 10 : 18));
      if (start) shapes.push(upright(start - gap / 2));
      start = end + 1 + gap;
    }
    const range = [-gap / 2 - 0.5, start - gap / 2];
    const traces = filterTraces(marks, start > 400 ? 5 : 7);
    if (plot.threshold !== null)
      traces.push({
        type: "scatter",
        mode: "lines",
        name: `threshold ${plot.threshold}`,
        x: range,
        y: [plot.threshold, plot.threshold].map(axis.map),
        hoverinfo: "name",
        line: { color: css("--ink"), width: 1.5, dash: "dash" },
      });
    const score = plot.criterion === "betti" ? "Betti number, b0 + b1" : short(plot.criterion, 24);
    const title = { text: score + (axis.log ? " (log scale)" : ""), font: { size: 12 }, standoff: 6 };
    const y = { ...axis.ticks, range: axis.range, title };
    const legend = { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" };
    const more = { shapes, legend, showlegend: plot.planned };
    return [traces, frame(360, { ...ticks, range, showgrid: false }, y, more)];
  }

  function filterMark(layer, i, start, axis) {
    const score = layer.scores[i];
    const reason = layer.reasons[i];
    const text =
      `<b>${esc(layer.name)}</b>, filter ${esc(layer.filters[i])}<br>score ${score}` +
      (reason === null ? "" : `<br>removed ${esc(reason)}`);
    return { x: start + i, y: axis.map(score), text, goes: reason !== null };
  }

  const filterTraces = (marks, size) =>
    [
      [false, "stays", "circle", "--kept"],
      [true, "is removed", "x", "--gone"],
    ].map(([goes, name, symbol, tone]) => {
      const of = marks.filter((mark) => mark.goes === goes);
      return {
        type: "scatter",
        mode: "markers",
        name,
        x: of.map((mark) => mark.x),
        y: of.map((mark) => mark.y),
        text: of.map((mark) => mark.text),
        hoverinfo: "text",
        marker: { symbol, color: css(tone), size },
        cliponaxis: false,
      };
    });

  const upright = (x) => ({
    type: "line",
    x0: x,
    x1: x,
    y0: 0,
    y1: 1,
    yref: "paper",
    line: { color: css("--line"), width: 1 },
  });

  /** Scores may be negative or small fractions; only then Plotly chooses the ticks. */
  function scoreAxis(values) {
    const low = smallest(values, 0);
    const axis = countAxis(values);
    const counts = low === 0 && values.every(Number.isInteger);
    if (counts || (axis.log && low === 0))
      return { ...axis, ticks: ticksOf(axis), range: [-0.03 * axis.top, 1.1 * axis.top] };
    const high = largest(values, -Infinity);
    const pad = 0.08 * (high - low || 1);
    return { map: (v) => v, ticks: {}, range: [low - pad, high + pad] };
  }

  const KINDS = { lines, heat, study, filters };
  const settings = {
    responsive: true,
    displayModeBar: false,
    doubleClick: "reset",
  };

  function draw(plots = document.querySelectorAll(".plot")) {
    for (const plot of plots) {
      if (!plot.clientWidth) continue; // in a hidden view: drawn when it is shown
      const { kind, index, part } = plot.dataset;
      const [traces, layout] = KINDS[kind](Number(index), part, plot.clientWidth);
      Plotly.react(plot, traces, layout, settings);
    }
  }

  /** Checkboxes that are the legend too, and what dashed and solid mean. */
  function fillKey(box) {
    const index = Number(box.dataset.key);
    const { tracks, epochs } = data.profiles[index].lines;
    const { off } = shown[index];
    tracks.forEach((track, t) => {
      const label = document.createElement("label");
      label.innerHTML =
        `<input type="checkbox" checked><svg width="16" height="16" viewBox="0 0 16 16" aria-hidden="true">` +
        `<path d="${shape(t)[1]}" style="fill: var(--c${t % 8})"/></svg>`;
      label.append(trackName(track));
      label.firstChild.addEventListener("change", (event) => {
        if (event.target.checked) off.delete(t);
        else off.add(t);
        draw(box.parentElement.querySelectorAll(".plot"));
      });
      box.append(label);
    });
    if (epochs.length < 2) return;
    const solid = epochs.length > 2 ? "the epoch below" : `epoch ${epochs.at(-1)}`;
    const before = epochs[0] === 0 ? "epoch 0, before training" : `epoch ${epochs[0]}`;
    for (const [dash, text] of [["5 4", before], ["none", solid]]) {
      const item = document.createElement("span");
      item.innerHTML =
        `<svg width="28" height="16" viewBox="0 0 28 16" aria-hidden="true"><path d="M1 8h26" ` +
        `style="fill: none; stroke: var(--soft); stroke-width: 2; stroke-dasharray: ${dash}"/></svg>`;
      item.append(text);
      box.append(item);
    }
  }

  function showProfile(chosen) {
    for (const view of document.querySelectorAll("[data-view=profile]"))
      view.hidden = view.dataset.index !== chosen;
  }

  function nameTheme() {
    document.getElementById("theme-name").textContent = root.dataset.theme === "dark" ? "Light" : "Dark";
  }

  document.querySelectorAll("[data-key]").forEach(fillKey);
  document.addEventListener("change", ({ target }) => {
    if (target.name === "profile") showProfile(target.value);
    if (target.name === "profile" || target.dataset.target) draw();
  });
  document.addEventListener("input", ({ target }) => {
    if (!target.dataset.epoch) return;
    const index = Number(target.dataset.epoch);
    const { lines: of, heat: single } = data.profiles[index];
    shown[index].epoch = Number(target.value);
    target.nextElementSibling.textContent = (of ?? single).epochs[target.value];
    draw(target.closest(".view").querySelectorAll(".plot"));
  });
  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
    nameTheme();
    draw();
  });
  narrow.addEventListener("change", () => draw());
  nameTheme();
  showProfile(document.querySelector("[name=profile]:checked")?.value ?? "0");
  draw();
})();
