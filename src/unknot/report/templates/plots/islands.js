// Islands: a bar a layer, a block an island, colours the classes; bands to the layers beside on pointing.

const HALF = 0.33; // of a bar's width

/** Whole numbers of one or two bytes from base64. */
function wholeNumbers(text, wide) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  if (!wide) return bytes;
  const view = new DataView(bytes.buffer);
  return Uint16Array.from(times(bytes.length / 2, (i) => view.getUint16(2 * i, true)));
}

/** The last epoch at or before the shown one of which members are kept, as a position. */
const keptEpoch = (picture, epoch) => picture.kept.findLast((e) => e <= epoch) ?? 0;

/** Blocks of one epoch: of each layer who stands where, how many of each class, and where they begin. */
function barsOf(picture, epoch) {
  picture.rankOf ??= wholeNumbers(picture.ranks, picture.manyClasses);
  picture.ready ??= new Map();
  if (!picture.ready.has(epoch))
    picture.ready.set(epoch, picture.layers.map((_, l) => barOf(picture, epoch, l)));
  return picture.ready.get(epoch);
}

function barOf(picture, epoch, l) {
  let e = epoch;
  while (e && picture.members[e][l] === null) e -= 1; // as in the epoch before
  const blocks = wholeNumbers(picture.members[e][l] ?? "", picture.wide);
  const sizes = times(largest([...blocks], -1) + 1, () => new Map());
  blocks.forEach((b, i) => sizes[b].set(picture.rankOf[i], (sizes[b].get(picture.rankOf[i]) ?? 0) + 1));
  let at = 0;
  const starts = sizes.map((of) => {
    const start = new Map();
    for (const rank of [...of.keys()].sort((a, b) => a - b)) {
      start.set(rank, at);
      at += of.get(rank);
    }
    at += picture.gap * picture.n;
    return start;
  });
  return { blocks, sizes, starts, top: sizes.length ? at - picture.gap * picture.n : picture.n };
}

function classColour(picture, rank) {
  return picture.colours ? picture.colours[rank] : css(`--c${picture.numbers[rank]}`);
}

/** "cat: 80, dog: 12 and 3 more classes" */
function classesText(picture, of, most = 6) {
  const found = [...of].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
  const more = found.length > most + 1 ? found.length - most : 0;
  const told = found.slice(0, more ? most : most + 1);
  const parts = told.map(([rank, n]) => `${esc(picture.classes[rank])}: ${n.toLocaleString("en")}`);
  return parts.join(", ") + (more ? ` and ${more} more classes` : "");
}

/** Where the samples of a block stand in the bar beside, most of them first. */
function besideText(picture, bars, l, block, to) {
  if (!bars[to]?.blocks.length) return "";
  const found = new Map();
  bars[l].blocks.forEach((b, i) => {
    const there = bars[to].blocks[i];
    if (b === block) found.set(there, (found.get(there) ?? 0) + 1);
  });
  const most = [...found].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
  const parts = most.slice(0, 4).map(([b, n]) => `${n.toLocaleString("en")} in island ${b + 1}`);
  const rest = most.slice(4).reduce((sum, [, n]) => sum + n, 0);
  if (rest) parts.push(`${rest} in others`);
  return `<br>${to < l ? "before, in" : "next, in"} ${esc(picture.layers[to])}: ${parts.join(", ")}`;
}

function blockText(picture, bars, l, block, epoch) {
  const layer = `<b>${esc(picture.layers[l])}</b>${epochName(epoch)}`;
  if (block < 0) return `${layer}: who stands where is not known`;
  const { sizes } = bars[l];
  const n = [...sizes[block].values()].reduce((a, b) => a + b, 0);
  return (
    `${layer}, island ${block + 1} of ${sizes.length} from below, ${n.toLocaleString("en")} ` +
    `sample${n === 1 ? "" : "s"} (${classesText(picture, sizes[block])})` +
    besideText(picture, bars, l, block, l - 1) +
    besideText(picture, bars, l, block, l + 1)
  );
}

function islands(index, _, width) {
  const { picture } = data.profiles[index].untangling;
  const e = keptEpoch(picture, shown[index].epoch);
  const bars = barsOf(picture, e);
  const trace = {
    type: "bar",
    x: [],
    y: [],
    base: [],
    customdata: [],
    width: 2 * HALF,
    marker: { color: [], line: { width: 0 } },
    hoverinfo: "none", // a label would cover the bands: the text stands below
  };
  const add = (l, base, height, color, block) => {
    trace.x.push(l);
    trace.base.push(base);
    trace.y.push(height);
    trace.marker.color.push(color);
    trace.customdata.push([l, block]);
  };
  bars.forEach((bar, l) => {
    if (!bar.sizes.length && picture.counts[e][l])
      add(l, 0, picture.n, css("--line"), -1);
    bar.sizes.forEach((of, block) => {
      for (const [from, height, rank] of segments(picture, of, bar.starts[block]))
        add(l, from, height, classColour(picture, rank), block);
    });
  });
  const roomy = width / picture.layers.length > 70;
  const counts = {
    type: "scatter",
    mode: "text",
    x: bars.map((_, l) => l),
    y: bars.map((bar) => bar.top),
    text: picture.counts[e].map((count) => (roomy ? count : count.split(" ")[0]).replace(/^\S+/, "<b>$&</b>")),
    textposition: "top center",
    textfont: { size: 12, color: css("--ink") },
    hoverinfo: "skip",
    cliponaxis: false,
  };
  // Of all epochs: the bars stand still.
  const top = largest(picture.kept.flatMap((k) => barsOf(picture, k).map((bar) => bar.top)), picture.n);
  const x = { ...layerTicks(picture.layers, width), range: [-0.6, picture.layers.length - 0.4], fixedrange: true };
  const y = { range: [0, 1.09 * top], visible: false, fixedrange: true };
  const l = x.tickangle ? Math.max(8, 4.5 * x.ticktext[0].length) : 8;
  const margin = { l, r: 12, t: 8, b: 8 };
  const more = { barmode: "overlay", dragmode: false, margin, shapes: [] };
  return [[trace, counts], frame(narrow.matches ? 300 : 360, x, y, more), followPointer];
}

/** Neighbouring classes of one colour, drawn as one: [start, height, a class of them]. */
function segments(picture, of, starts) {
  const found = [];
  for (const rank of starts.keys()) {
    const last = found.at(-1);
    if (last && picture.groups[last[2]] === picture.groups[rank]) last[1] += of.get(rank);
    else found.push([starts.get(rank), of.get(rank), rank]);
  }
  return found;
}

/** While a block is pointed at, bands show where its samples were in the layer before and are in the next. */
function followPointer(plot) {
  const said = plot.parentElement.querySelector("[data-pointed]");
  const silent = said.innerHTML;
  plot.on("plotly_hover", ({ points }) => {
    const index = Number(plot.dataset.index);
    const { untangling, epochs } = data.profiles[index];
    const { picture } = untangling;
    const found = points.find((point) => point.customdata);
    if (!found) return;
    const [l, block] = found.customdata;
    const e = keptEpoch(picture, shown[index].epoch);
    const bars = barsOf(picture, e);
    said.innerHTML = blockText(picture, bars, l, block, epochs[e]);
    const shapes = [l - 1, l + 1].flatMap((to) => bands(picture, bars, l, block, to));
    Plotly.relayout(plot, { shapes });
  });
  plot.on("plotly_unhover", () => {
    said.innerHTML = silent;
    Plotly.relayout(plot, { shapes: [] });
  });
}

/** A band for each class and block of the bar beside, in the colour of the class. */
function bands(picture, bars, l, block, to) {
  if (block < 0 || !bars[to]?.blocks.length) return [];
  const [here, there] = [bars[l], bars[to]];
  const key = (rank, a, b) => `${rank} ${a} ${b}`;
  const counts = new Map();
  here.blocks.forEach((a, i) => {
    const k = key(picture.rankOf[i], a, there.blocks[i]);
    counts.set(k, (counts.get(k) ?? 0) + 1);
  });
  const count = (rank, a, b) => counts.get(key(rank, a, b)) ?? 0;
  const found = [];
  for (const [rank, start] of here.starts[block]) {
    let from = start;
    there.starts.forEach((of, b) => {
      const n = count(rank, block, b);
      if (!n) return;
      // In the block beside, those from blocks further below stand below.
      const below = times(block, (a) => count(rank, a, b)).reduce((sum, v) => sum + v, 0);
      found.push(band(l, to, from, of.get(rank) + below, n, classColour(picture, rank)));
      from += n;
    });
  }
  return found;
}

function band(l, to, y0, y1, height, color) {
  const side = Math.sign(to - l);
  const [x0, x1] = [l + side * HALF, to - side * HALF];
  const middle = (x0 + x1) / 2;
  const path =
    `M${x0},${y0} C${middle},${y0} ${middle},${y1} ${x1},${y1} L${x1},${y1 + height} ` +
    `C${middle},${y1 + height} ${middle},${y0 + height} ${x0},${y0 + height} Z`;
  return { type: "path", path, fillcolor: color, opacity: 0.6, line: { width: 0 } };
}
