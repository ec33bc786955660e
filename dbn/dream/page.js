// The page: what is drawn or chosen, what the model makes of it, and the buttons.

const find = (id) => document.getElementById(id);
const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
const isPlain = (x) => x === 0 || (Math.abs(x) >= 0.001 && Math.abs(x) < 1e6);
const number = (x) => (isPlain(x) ? String(+x.toPrecision(4)) : x.toExponential(2));

const model = prepare(JSON.parse(find("model").textContent));
const { image, network, columns } = model, hasStack = model.rbms.length > 0;
const isTable = !image, dreams = Boolean(find("step"));
const reconstructs = document.body.dataset.reconstructs === "true";
const first = hasStack ? model.rbms[0].visible : null;
let random = randomFrom(0), chain = null, steps = 0, isRunning = false, isAsked = false;

const setting = (id) => Number(find(id).value);
const options = () => ({ temperature: setting("temperature"), label: find("label") ? setting("label") - 1 : -1 });

/** Compute again before the screen is drawn next, once for all changes until then. */
function changed() {
  if (isAsked) return;
  isAsked = true;
  requestAnimationFrame(() => {
    isAsked = false;
    if (isTable) lookAtRow();
    else lookAtDrawing();
  });
}

// Activities

const layers = find("layers");

const greatest = (values) => values.reduce((x, y) => Math.max(x, Math.abs(y)), 0) || 1;

const layerScale = ([part], values) =>
  part.kind === "binomial" ? part.trials : part.precision ? greatest(values) : 1;

const activationScale = (layer, values) =>
  ["sigmoid", "tanh", "softmax"].includes(layer.activation) ? 1 : greatest(values);

/** Each layer as a picture with its mean, named by `names`. */
function showLayers(all) {
  while (layers.childElementCount > all.length) layers.lastChild.remove();
  all.forEach(({ name, values, scale }, place) => {
    const canvas = layers.children[place]?.firstChild || make("canvas");
    if (!canvas.parentNode) layers.append(make("figure", {}, canvas, make("figcaption")));
    const average = values.reduce((x, y) => x + y, 0) / values.length;
    paintUnits(canvas, values, scale);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Activity of ${name}`);
    canvas.nextSibling.textContent = `${name}: mean ${number(average)}`;
  });
}

const stackLayers = (found) => found.map((values, k) => {
  const units = model.rbms[k].hidden;
  return { name: `Layer ${k + 1}, ${units.size} ${units[0].kind} units`, values, scale: layerScale(units, values) };
});

const networkLayers = (found) => found.slice(0, -1).map((values, k) => {
  const layer = network.layers[k];
  const name = `${hasStack ? "Network, layer" : "Layer"} ${k + 1}, ${values.length} ${layer.activation} units`;
  return { name, values, scale: activationScale(layer, values) };
});

/** What a network says of values of the visible units, and its layers. */
function ask(v) {
  if (!network) return { outputs: null, layers: [] };
  const found = networkActivities(network, v);
  return { outputs: answersOf(network, found.at(-1)), layers: networkLayers(found) };
}

// Answers

const answers = find("answers");

function showAnswers(names, values, of) {
  if (!answers || !values) return;
  find("of").textContent = of;
  const isShare = !network || network.answers !== "numbers" || !values.length;
  const best = isShare && names.length > 1 ? values.indexOf(values.reduce((x, y) => Math.max(x, y))) : -1;
  names.forEach((name, k) => {
    const row = answers.children[k] || answers.appendChild(make("div", { className: "answer" },
      make("span", { textContent: name }), make(isShare ? "progress" : "span"), make("span", { className: "value" })));
    if (isShare) {
      row.children[1].value = values[k];
      row.children[1].setAttribute("aria-label", name);
    }
    row.lastChild.textContent = isShare ? `${(100 * values[k]).toFixed(1)} %` : number(values[k]);
    row.classList.toggle("best", k === best);
  });
}

const names = network && network.answers !== "data" ? network.names : model.classes;
const judged = (asked, classes) => (network ? (network.answers === "data" ? null : asked.outputs) : classes);

// Images

/** Values of the visible units as those of an image: of categories the mean code. */
function imageOf(v) {
  if (!image.codes) return unscaled(model, v);
  return Float64Array.from({ length: v.length / image.codes }, (_, k) => {
    let sum = 0;
    for (let s = 0; s < image.codes; s++) sum += s * v[k * image.codes + s];
    return sum;
  });
}

function lookAtDrawing() {
  const v = scaled(model, Array.from(drawing.values));
  const asked = ask(v), found = hasStack ? activities(model, v) : [];
  if (find("reconstruction")) {
    const again = hasStack ? reconstruction(model, v, found) : asked.outputs;
    paintImage(find("reconstruction"), image, imageOf(again));
  }
  showLayers([...stackLayers(found), ...asked.layers]);
  showAnswers(names, judged(asked, model.classes.length ? classProbabilities(model, v) : null), "Of the drawing.");
  find("shown").textContent = "Means given the drawing. Bright is high, blue below 0; each dot is a unit.";
}

function dreamOn(count) {
  const { temperature, label } = options();
  chain = chain || startOf(model, scaled(model, Array.from(drawing.values)), random);
  let found;
  for (let k = 0; k < count; k++) {
    found = dreamStep(model, chain, random, temperature, label);
    chain = found.next;
  }
  steps += count;
  const asked = ask(found.visible);
  paintImage(find("dream"), image, imageOf(found.visible));
  find("dreamed").textContent = `After ${steps} Gibbs step${steps > 1 ? "s" : ""}: the mean of the pixels.`;
  showLayers([...stackLayers(found.layers), ...asked.layers]);
  showAnswers(names, judged(asked, model.classes.length ? found.classes : null), "Of the Gibbs chain.");
  find("shown").textContent = "States of the Gibbs chain. Bright is high, blue below 0; each dot is a unit.";
}

function penColor() {
  const size = setting("width") * Math.max(1, Math.min(image.shape[1], image.shape[2]) / 28);
  if (!find("color")) return { color: [setting("pen")], size };
  const bytes = find("color").value.match(/[0-9a-f]{2}/g).map((hex) => parseInt(hex, 16) / 255);
  return { color: bytes.map((x) => image.least + x * (image.greatest - image.least)), size };
}

const drawing = image ? drawingOn(find("drawing"), image, penColor, changed) : null;

// Tables

const row = [];

/** A line of the table for each column: whether it is known, its value, and cells for what the model says. */
function makeColumns() {
  const said = { ...(dreams && { filled: "filled in" }), ...(reconstructs && { again: "reconstruction" }),
    ...(dreams && { drawn: "drawn" }) };
  const heads = [...(dreams ? ["known"] : []), "column", "value", ...Object.values(said)];
  find("heads").append(...heads.map((name) => make("th", { textContent: name })));
  columns.forEach((column, k) => {
    const cells = {}, line = find("columns").appendChild(make("tr"));
    const state = { value: column.values ? column.values[0] : column.start, isKnown: !dreams, cells };
    const set = (value) => {
      state.value = value;
      state.isKnown = true;
      if (cells.known) cells.known.checked = true;
      changed();
    };
    if (dreams) {
      cells.known = make("input", { type: "checkbox" });
      cells.known.setAttribute("aria-label", `${column.name} is known`);
      cells.known.addEventListener("change", () => {
        state.isKnown = cells.known.checked;
        changed();
      });
      line.append(make("td", {}, cells.known));
    }
    const setting = make("td", { className: "setting" }, make("div", {}, ...inputs(column, state, set)));
    line.append(make("td", { textContent: column.name }), setting);
    for (const [name, head] of Object.entries(said)) {
      cells[name] = line.appendChild(make("td"));
      cells[name].dataset.name = head;
    }
    row[k] = state;
  });
}

const optionsOf = (names) => names.map((name, k) => make("option", { value: String(k), textContent: name }));

function inputs(column, state, set) {
  if (column.values) {
    const select = make("select", {}, ...optionsOf(column.choices));
    select.setAttribute("aria-label", column.name);
    select.addEventListener("change", () => set(column.values[Number(select.value)]));
    return [select];
  }
  const shown = (value) => String(+(value * column.factor).toPrecision(4)), step = column.whole ? "1" : "any";
  const ends = { min: String(column.least * column.factor), max: String(column.greatest * column.factor) };
  const slider = make("input", { type: "range", ...ends, step, value: shown(state.value) });
  const field = make("input", { type: "number", step, value: shown(state.value) });
  for (const each of [slider, field]) each.setAttribute("aria-label", column.name);
  slider.addEventListener("input", () => {
    field.value = shown(Number(slider.value) / column.factor);
    set(Number(slider.value) / column.factor);
  });
  field.addEventListener("input", () => {
    if (field.value === "") return;
    slider.value = field.value;
    set(Number(field.value) / column.factor);
  });
  return [slider, field];
}

/** Values of the visible units, by column in words: the number, or the most probable category with its probability. */
function inWords(v) {
  const values = unscaled(model, v);
  let place = 0;
  return columns.map((column, k) => {
    const states = (model.scaling.codes && model.scaling.codes[k]) || 1, own = values.subarray(place, place += states);
    if (!column.values) return number(own[0] * column.factor);
    if (states === 1 && column.values[0] === -1) return `${number(own[0])}`;
    const p = states === 1 ? [1 - own[0], own[0]] : Array.from(own), best = p.indexOf(Math.max(...p));
    return `${column.choices[best]} (${(100 * p[best]).toFixed(0)}\u00a0%)`;
  });
}

const heldUnits = () => {
  const v = scaled(model, row.map((each) => each.value)), known = unitsOf(model, row.map((each) => each.isKnown));
  const count = model.rbms.length === 1 ? model.classes.length : 0, label = dreams ? options().label : -1;
  const all = new Float64Array(v.length + count);
  all.set(v.map((x, i) => (known[i] ? x : 0)));
  for (let y = 0; y < count; y++) known.push(label >= 0);
  if (label >= 0 && count) all[v.length + label] = 1;
  return { v: all, known, n: v.length };
};

function lookAtRow() {
  const { v, known, n } = heldUnits();
  let seen = v.subarray(0, n), classes = null;
  if (dreams) {
    const discard = Math.ceil(setting("steps") / 5);
    const asked = { steps: setting("steps"), discard, ...options() };
    const found = conditional(model, v, known, randomFrom(setting("seed")), asked);
    seen = found.mean.subarray(0, n);
    classes = model.rbms.length === 1 ? found.mean.subarray(n) : found.classes;
    find("how").textContent = found.isExact ? "Filled in exactly, without Gibbs steps."
      : `Filled in by the mean of ${setting("steps")} Gibbs steps after ${discard} others.`;
    inWords(seen).forEach((text, k) => { row[k].cells.filled.textContent = row[k].isKnown ? "" : text; });
  }
  const asked = ask(seen), found = hasStack ? activities(model, seen) : [];
  if (reconstructs) {
    const again = hasStack ? reconstruction(model, seen, found) : asked.outputs;
    inWords(again).forEach((text, k) => { row[k].cells.again.textContent = text; });
  }
  if (hasStack && !classes && model.classes.length) classes = classProbabilities(model, seen);
  showLayers([...stackLayers(found), ...asked.layers]);
  showAnswers(names, judged(asked, classes), dreams ? "Of the row, filled in." : "Of the row.");
  find("shown").textContent = "Means given the row. Bright is high, blue below 0; each dot is a unit.";
}

function drawOn(count) {
  const { v, known, n } = heldUnits(), { temperature, label } = options();
  chain = chain || { v, labels: new Float64Array(model.rbms.length > 1 ? model.classes.length : 0) };
  let found;
  for (let k = 0; k < count; k++) {
    found = heldStep(model, chain.v, chain.labels, random, temperature, label);
    chain = { v: heldAt(v, known, sample(found.visible, found.field, random, temperature)), labels: found.labels };
  }
  steps += count;
  find("dreamed").textContent = `Drawn: step ${steps} of the Gibbs chain, in which the known values are held.`;
  const state = chain.v.subarray(0, n), asked = ask(state);
  const labels = model.rbms.length > 1 ? chain.labels : chain.v.subarray(n);
  inWords(state).forEach((text, k) => { row[k].cells.drawn.textContent = text.replace(/ \(100\u00a0%\)$/, ""); });
  showLayers([...stackLayers(found.layers), ...asked.layers]);
  showAnswers(names, judged(asked, labels), "Of the Gibbs chain.");
  find("shown").textContent = "States of the Gibbs chain. Bright is high, blue below 0; each dot is a unit.";
}

// Buttons

const PAUSE = 80; // milliseconds between two frames, so that they can be looked at

function frame() {
  if (!isRunning) return;
  stepOn();
  setTimeout(frame, PAUSE);
}

function stepOn() {
  if (isTable) drawOn(1);
  else dreamOn(setting("steps"));
}

function run(is) {
  isRunning = is;
  find("run").setAttribute("aria-pressed", String(is));
  find("run").textContent = is ? "Stop" : "Run";
  if (is) frame();
}

function restart(state) {
  random = randomFrom(setting("seed"));
  chain = state();
  steps = 0;
}

if (isTable) makeColumns();
if (dreams) {
  for (const id of ["steps", "temperature"]) {
    const show = () => { find(`${id}-value`).textContent = find(id).value; };
    find(id).addEventListener("input", () => { show(); if (isTable) changed(); });
    show();
  }
  if (find("label")) {
    find("label").append(...optionsOf(["any", ...model.classes]));
    find("label").addEventListener("change", () => { if (isTable) changed(); });
  }
  find("seed").addEventListener("change", () => { restart(() => null); if (isTable) changed(); });
  find("step").addEventListener("click", () => { run(false); stepOn(); });
  find("run").addEventListener("click", () => run(!isRunning));
}
if (image) {
  if (find("pen")) {
    const show = () => { find("pen-value").textContent = number(setting("pen")); };
    find("pen").addEventListener("input", show);
    show();
  }
  find("clear").addEventListener("click", () => drawing.set(new Float64Array(drawing.values.length).fill(image.least)));
  find("center")?.addEventListener("click", () => drawing.set(centered(image, drawing.values)));
  if (dreams) {
    find("from-drawing").addEventListener("click", () => { restart(() => null); stepOn(); });
    find("from-noise").addEventListener("click", () => { restart(() => startOfNoise(model, random)); stepOn(); });
    paintImage(find("dream"), image, drawing.values);
  }
}
changed();
