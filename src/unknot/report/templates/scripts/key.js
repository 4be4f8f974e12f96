// Checkboxes that are the legend too, and what dashed and solid mean.

function fillKey(box) {
  const index = Number(box.dataset.key);
  const { tracks, epochs, lines: byClass } = data.profiles[index];
  const { off } = shown[index];
  const plain = "plain" in box.dataset; // beside the clouds the key only explains
  tracks.forEach((track, i) => {
    const label = document.createElement(plain ? "span" : "label");
    const paint = shape(i)[2] ? "fill: none; stroke-width: 2; stroke" : "fill";
    label.innerHTML =
      `<svg width="16" height="16" viewBox="0 0 16 16" aria-hidden="true">` +
      `<path d="${shape(i)[1]}" style="${paint}: var(--c${i % 8})"/></svg>`;
    label.append(trackName(track, index));
    if (!plain) label.prepend(checkbox(i, off, () => draw(box.closest(".view").querySelectorAll(".plot"))));
    box.append(label);
  });
  if (plain || epochs.length < 2 || !byClass) return;
  const solid = epochs.length > 2 ? "the epoch chosen" : `epoch ${epochs.at(-1)}`;
  const before = epochs[0] === 0 ? "epoch 0, before training" : `epoch ${epochs[0]}`;
  for (const [dash, text] of [["4 4", before], ["none", solid]]) {
    const item = document.createElement("span");
    item.innerHTML =
      `<svg width="28" height="16" viewBox="0 0 28 16" aria-hidden="true"><path d="M1 8h26" ` +
      `style="fill: none; stroke: var(--soft); stroke-width: 2; stroke-dasharray: ${dash}"/></svg>`;
    item.append(text);
    box.append(item);
  }
}

function checkbox(i, off, changed) {
  const box = document.createElement("input");
  box.type = "checkbox";
  box.checked = true;
  box.addEventListener("change", () => {
    if (box.checked) off.delete(i);
    else off.add(i);
    changed();
  });
  return box;
}
