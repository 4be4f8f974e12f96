// The one control of the epoch: it moves every plot of a profile that depends on it.

const SPEEDS = [1, 2, 4, 8]; // epochs a second
const TIMED = ["islands", "untangling", "lines", "heat", "clouds", "accuracy"];

function setEpoch(index, epoch) {
  const bar = document.querySelector(`[data-time="${index}"]`);
  const { epochs } = data.profiles[index];
  const to = Math.max(0, Math.min(epochs.length - 1, epoch));
  if (to === shown[index].epoch) return;
  shown[index].epoch = to;
  const slider = bar.querySelector("[data-epoch]");
  slider.value = to;
  slider.setAttribute("aria-valuetext", `epoch ${epochs[to]}`);
  bar.querySelector("output").textContent = epochs[to];
  const plots = [...bar.closest(".view").querySelectorAll(".plot")];
  draw(plots.filter((plot) => TIMED.includes(plot.dataset.kind)));
}

function play(index) {
  const state = shown[index];
  if (state.epoch === data.profiles[index].epochs.length - 1) setEpoch(index, 0);
  namePlay(index, true);
  state.timer = setTimeout(() => advance(index), pause(index));
}

function advance(index) {
  const state = shown[index];
  const last = data.profiles[index].epochs.length - 1;
  setEpoch(index, state.epoch + 1);
  if (state.epoch === last) stop(index);
  else state.timer = setTimeout(() => advance(index), pause(index));
}

function stop(index) {
  clearTimeout(shown[index].timer);
  shown[index].timer = null;
  namePlay(index, false);
}

const toggle = (index) => (shown[index].timer === null ? play(index) : stop(index));
const pause = (index) => 1000 / Number(document.querySelector(`[data-speed="${index}"]`).value);

function namePlay(index, playing) {
  const bar = document.querySelector(`[data-time="${index}"]`);
  const button = bar.querySelector("[data-play]");
  button.firstElementChild.textContent = playing ? "❚❚" : "▶";
  button.lastElementChild.textContent = playing ? "Pause" : "Play";
  // Read out what the reader chose, not every step of an animation.
  bar.querySelector("output").setAttribute("aria-live", playing ? "off" : "polite");
}

function setUpTime(bar) {
  const index = Number(bar.dataset.time);
  const count = data.profiles[index].epochs.length;
  // About ten seconds for the whole training; a reader who asked for little motion gets the slowest.
  const wanted = calm.matches ? 1 : (SPEEDS.find((speed) => count / speed <= 12) ?? SPEEDS.at(-1));
  bar.querySelector("[data-speed]").value = wanted;
  bar.querySelector("[data-play]").addEventListener("click", () => toggle(index));
  bar.querySelector("[data-epoch]").addEventListener("input", (event) => {
    stop(index);
    setEpoch(index, Number(event.target.value));
  });
  // A click on a plot gives the keys to its profile; Plotly itself would leave the focus where it was.
  const view = bar.closest(".view");
  view.addEventListener("pointerdown", ({ target }) => {
    if (target.closest(".plot")) view.focus({ preventScroll: true });
  });
}

/** Which profile a key belongs to: the one that has the focus, or the one in sight for the arrows. */
function profileOf(target, key) {
  if (target.closest("select, summary, .scroll, .tabs, [type=checkbox]")) return null;
  if (target.closest("button") && key === " ") return null; // the button's own
  const view = target.closest("[data-view=profile]");
  if (view) return view.querySelector("[data-time]");
  if (target !== document.body || !key.startsWith("Arrow")) return null;
  const bar = document.querySelector("[data-view=profile]:not([hidden]) [data-time]");
  const box = bar?.getBoundingClientRect();
  return box && box.top < innerHeight && box.bottom > 0 ? bar : null;
}

function pressed(event) {
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const moves = {
    ArrowLeft: (index) => setEpoch(index, shown[index].epoch - 1),
    ArrowRight: (index) => setEpoch(index, shown[index].epoch + 1),
    Home: (index) => setEpoch(index, 0),
    End: (index) => setEpoch(index, data.profiles[index].epochs.length - 1),
    " ": toggle,
  };
  const bar = moves[event.key] && profileOf(event.target, event.key);
  if (!bar) return;
  event.preventDefault();
  const index = Number(bar.dataset.time);
  if (event.key !== " ") stop(index);
  moves[event.key](index);
}
