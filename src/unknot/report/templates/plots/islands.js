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

const total = (of) => [...of.values()].reduce((a, b) => a + b, 0);

function classColour(picture, rank) {
  return picture.colours ? picture.colours[rank] : css(`--c${picture.numbers[rank]}`);
}

/** "cat 80, dog 12 and 3 more" */
function classesText(picture, of, most = 5) {
  const found = [...of].sort((a, b) => b[1] - a[1]);
  const more = found.length > most + 1 ? found.length - most : 0;
  const told = found.slice(0, more ? most : most + 1).map(([rank, n]) => `${esc(picture.classes[rank])} ${n}`);
  return told.join(", ") + (more ? ` and ${more} more` : "");
}

/** How many samples of a block stand in each block of the bar beside. */
function shared(bar, block, beside) {
  const found = new Map();
  bar.blocks.forEach((b, i) => {
    if (b === block && i < beside.blocks.length)
      found.set(beside.blocks[i], (found.get(beside.blocks[i]) ?? 0) + 1);
  });
  return [...found].sort((a, b) => b[1] - a[1]);
}

function besideText(picture, bars, l, block, to) {
  if (!bars[to]?.blocks.length || !bars[l].blocks.length) return "";
  const found = shared(bars[l], block, bars[to]);
  const parts = found.slice(0, 4).map(([b, n]) => `${n.toLocaleString("en")} in island ${b + 1}`);
  const more = found.length > 4 ? ", …" : "";
  return `<br>${to < l ? "before, in" : "next, in"} ${esc(picture.layers[to])}: ${parts.join(", ")}${more}`;
}

function blockText(picture, bars, l, block, when) {
  const of = bars[l].sizes[block];
  const islandsHere = bars[l].sizes.length;
  return (
    `<b>${esc(picture.layers[l])}</b>${when}<br>island ${block + 1} of ${islandsHere} from below: ` +
    `${total(of).toLocaleString("en")} samples<br>${classesText(picture, of)}` +
    besideText(picture, bars, l, block, l - 1) +
    besideText(picture, bars, l, block, l + 1)
  );
}

function islands(index, _, width) {
  const { untangling, epochs } = data.profiles[index];
  const { picture } = untangling;
  const e = keptEpoch(picture, shown[index].epoch);
  const bars = barsOf(picture, e);
  const when = epochName(epochs[e]);
  const trace = {
    type: "bar",
    x: [],
    y: [],
    base: [],
    text: [],
    customdata: [],
    width: 2 * HALF,
    marker: { color: [], line: { width: 0 } },
    hoverinfo: "text",
    textposition: "none",
  };
  const add = (l, base, height, color, text, block) => {
    trace.x.push(l);
    trace.base.push(base);
    trace.y.push(height);
    trace.marker.color.push(color);
    trace.text.push(text);
    trace.customdata.push([l, block]);
  };
  bars.forEach((bar, l) => {
    if (!bar.sizes.length && picture.counts[e][l])
      add(l, 0, picture.n, css("--line"), `<b>${esc(picture.layers[l])}</b>${when}<br>who stands where is not known`, -1);
    bar.sizes.forEach((of, block) => {
      const text = blockText(picture, bars, l, block, when);
      for (const [from, height, rank] of segments(picture, of, bar.starts[block]))
        add(l, from, height, classColour(picture, rank), text, block);
    });
  });
  const roomy = width / picture.layers.length > 70;
  const counts = {
    type: "scatter",
    mode: "text",
    x: bars.map((_, l) => l),
    y: bars.map((bar) => bar.top),
    text: picture.counts[e].map((count) => (roomy ? count.replace(/^\S+/, "<b>$&</b>") : `<b>${count.split(" ")[0]}</b>`)),
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
  return [[trace, counts], frame(narrow.matches ? 320 : 380, x, y, { barmode: "overlay", dragmode: false, margin, shapes: [] }), followPointer];
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
  plot.on("plotly_hover", ({ points }) => {
    const found = points.find((point) => point.customdata);
    if (!found) return;
    const index = Number(plot.dataset.index);
    const { picture } = data.profiles[index].untangling;
    const [l, block] = found.customdata;
    const bars = barsOf(picture, keptEpoch(picture, shown[index].epoch));
    if (block < 0) return;
    Plotly.relayout(plot, { shapes: [...bands(picture, bars, l, block, l - 1), ...bands(picture, bars, l, block, l + 1)] });
  });
  plot.on("plotly_unhover", () => Plotly.relayout(plot, { shapes: [] }));
}

/** A band for each class and block of the bar beside, in the colour of the class. */
function bands(picture, bars, l, block, to) {
  if (!bars[to]?.blocks.length) return [];
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
