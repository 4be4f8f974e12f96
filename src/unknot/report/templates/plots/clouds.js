// Layer outputs in three dimensions, or flat where the browser has no WebGL.

const webgl = (() => {
  try {
    const canvas = document.createElement("canvas");
    return Boolean(canvas.getContext("webgl2") ?? canvas.getContext("webgl"));
  } catch {
    return false;
  }
})();

/** The view of the shown epoch; where none was kept, that of the last epoch before. */
function viewAt(index, layer) {
  const { clouds, epochs } = data.profiles[index];
  const now = epochs[shown[index].epoch] ?? 0;
  const { views } = clouds.layers[layer];
  return views.findLast((view) => (view.epoch ?? 0) <= now) ?? views[0];
}

/** Three coordinates of every point, from int16 in base64. */
function unpack(view) {
  const bytes = Uint8Array.from(atob(view.points), (c) => c.charCodeAt(0));
  const flat = new DataView(bytes.buffer);
  return [0, 1, 2].map((axis) =>
    times(bytes.length / 6, (i) => flat.getInt16(6 * i + 2 * axis, true) * view.step),
  );
}

function clouds(index, part) {
  const { clouds: all, tracks } = data.profiles[index];
  const { off, clouds: chosen } = shown[index];
  const layer = all.layers[chosen[part]];
  const view = viewAt(index, chosen[part]);
  const labels = all.labels[view.labels];
  const axes = unpack(view);
  const traces = tracks.flatMap((track, i) => {
    const at = times(axes[0].length, (p) => p).filter((p) => (labels ? labels[p] : null) === track);
    if (!at.length || off.has(i)) return [];
    const [x, y, z] = axes.map((values) => at.map((p) => values[p]));
    const symbol = shape(i)[0];
    const line = { width: shape(i)[2] ? 1.5 : 0, color: colour(i) };
    return {
      ...(webgl ? { type: "scatter3d", x, y, z } : { type: "scatter", x, y }),
      mode: "markers",
      hoverinfo: "text",
      text: esc(trackName(track, index)),
      opacity: 0.85,
      marker: { symbol, size: webgl ? 3 : 5, color: colour(i), line },
    };
  });
  const reach = 1.05 * largest(layer.views.map((v) => v.reach), 0.01); // of all epochs: the box stands still
  caption(index, part, view);
  return [traces, webgl ? solid(reach) : flat(reach)];
}

function solid(reach) {
  // Plotly would draw the axis titles on a canvas of its own; annotations are plain text of the page.
  const axis = () => ({
    title: { text: "" },
    range: [-reach, reach],
    showticklabels: false,
    showspikes: false,
    gridcolor: css("--line"),
    zeroline: false,
    showbackground: false,
  });
  const label = (text, x, y, z) => ({
    text,
    x: x * reach,
    y: y * reach,
    z: z * reach,
    showarrow: false,
    font: { size: 11, color: css("--soft") },
  });
  const scene = {
    xaxis: axis(),
    yaxis: axis(),
    zaxis: axis(),
    annotations: [label("PC 1", 0, 1, -1), label("PC 2", 1, 0, -1), label("PC 3", -1, -1, 0.9)],
    aspectmode: "cube",
    dragmode: "orbit",
    camera: { eye: { x: 1.12, y: 1.12, z: 0.65 }, center: { x: 0, y: 0, z: -0.12 } },
    uirevision: "camera", // the reader's view stays while the epoch moves
  };
  return frame(320, {}, {}, { scene, margin: { l: 0, r: 0, t: 0, b: 0 } });
}

function flat(reach) {
  const axis = (title) => ({
    title: { text: title, font: { size: 11 } },
    range: [-reach, reach],
    showticklabels: false,
    nticks: 5,
  });
  const y = { ...axis("PC 2"), scaleanchor: "x" };
  return frame(320, { ...axis("PC 1"), constrain: "domain" }, y);
}

/** Said once above the clouds, where it is so. */
function sayFlat() {
  for (const note of document.querySelectorAll("[data-flat]")) note.hidden = webgl;
}

function caption(index, part, view) {
  const box = document.querySelector(`[data-caption="${index}-${part}"]`);
  const epoch = view.epoch === null ? "" : `epoch ${view.epoch}, `;
  box.textContent = `${epoch}${percent(view.explained)} of the variance${webgl ? "" : " in three components, two are drawn"}`;
}
