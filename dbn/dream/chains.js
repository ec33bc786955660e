// Random numbers, samples of layers, and Gibbs chains.

/** Uniform numbers in (0, 1): xoshiro128** of Blackman & Vigna (2018), its state filled from the seed. */
function randomFrom(seed) {
  let z = seed | 0;
  const next = () => {
    z = (z + 0x9e3779b9) | 0;
    let x = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
    return (x ^ (x >>> 15)) | 0;
  };
  const s = [next(), next(), next(), next()];
  const turn = (x, k) => (x << k) | (x >>> (32 - k));
  return () => {
    const result = Math.imul(turn(Math.imul(s[1], 5), 7), 9) >>> 0, shifted = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = turn(s[3], 11);
    return (result + 0.5) / 4294967296;
  };
}

const normal = (random) => Math.sqrt(-2 * Math.log(random())) * Math.cos(2 * Math.PI * random());
const bit = (p, random) => (random() < p ? 1 : 0);

/** By kind of unit: x ~ p(x | a), of a, λ and the number of trials. */
const DRAWS = {
  bernoulli: (random, a) => bit(sigmoid(a), random),
  spin: (random, a) => 2 * bit(sigmoid(2 * a), random) - 1,
  binomial(random, a, _, n) {
    const p = sigmoid(a);
    let count = 0;
    for (let k = 0; k < n; k++) count += bit(p, random);
    return count;
  },
  gaussian: (random, a, l) => a / l + normal(random) / Math.sqrt(l),
  relu: (random, a, l) => halfLineDraw(random, a / Math.sqrt(l)) / Math.sqrt(l),
};

/** s ~ p(s) ∝ exp(t·s − s²/2), s ≥ 0, by rejection from the normal distribution, or for t < 0 from an exponential
 *  one (Robert 1995, "Simulation of truncated normal variables"). */
function halfLineDraw(random, t) {
  if (t >= 0) {
    for (;;) {
      const s = t + normal(random);
      if (s >= 0) return s;
    }
  }
  const rate = (-t + Math.sqrt(t * t + 4)) / 2;
  for (;;) {
    const s = -Math.log(random()) / rate, off = s - t - rate;
    if (random() < Math.exp((-off * off) / 2)) return s;
  }
}

function sample(units, field, random, temperature = 1) {
  const x = new Float64Array(units.size);
  forUnits(units, field, temperature,
    (part, a, l, place) => { x[place] = DRAWS[part.kind](random, a, l, part.trials); },
    (part, a, place) => {
      let rest = random(), s = 0;
      const p = softmax(a);
      while (s < p.length - 1 && (rest -= p[s]) > 0) s++;
      x[place + s] = 1;
    });
  return x;
}

const sampleUp = (rbm, v, random, temperature) => sample(rbm.hidden, hiddenField(rbm, v), random, temperature);
const sampleDown = (rbm, h, random, temperature) => sample(rbm.visible, visibleField(rbm, h), random, temperature);

/** States of all layers but the top given data: where a chain of the top RBM starts. Labels are drawn at field 0. */
function startOf(model, v, random) {
  const states = [v];
  for (const rbm of model.rbms.slice(0, -1)) states.push(sampleUp(rbm, states.at(-1), random));
  const top = model.rbms.at(-1), state = new Float64Array(top.visible.size);
  if (model.classes.length) state.set(sample(top.visible, state, random));
  state.set(states.at(-1));
  return state;
}

/** Where a chain starts without data: the visible units of the top RBM at field 0. */
function startOfNoise(model, random) {
  const top = model.rbms.at(-1);
  return sample(top.visible, new Float64Array(top.visible.size), random);
}

/** Give the label units of the top RBM's visible state the class at a place, none where that is −1. */
function withLabel(model, state, label) {
  const first = state.length - model.classes.length;
  if (label >= 0) state.fill(0, first)[first + label] = 1;
  return state;
}

/** A Gibbs step in the top RBM, then a pass down: its next state, those of the layers, and the mean of the data. */
function dreamStep(model, state, random, temperature = 1, label = -1) {
  const top = model.rbms.at(-1);
  const h = sampleUp(top, withLabel(model, state, label), random, temperature);
  const field = visibleField(top, h), next = withLabel(model, sample(top.visible, field, random, temperature), label);
  const n = top.visible.size - model.classes.length, expected = mean(top.visible, field, temperature);
  const layers = [h], isAlone = model.down.length === 0;
  let below = isAlone ? expected.slice(0, n) : next.slice(0, n);
  [...model.down].reverse().forEach((rbm, k, all) => {
    layers.unshift(below);
    below = k === all.length - 1 ? down(rbm, below) : sampleDown(rbm, below, random);
  });
  return { next, layers, visible: below, classes: withLabel(model, expected, label).slice(n) };
}

/** A pass up from data, a step in the top RBM and a pass down: the states of the hidden layers and of the labels, and
 *  the field of the visible units. With one layer, labels are the last of the visible units. */
function heldStep(model, v, labels, random, temperature = 1, label = -1) {
  const count = model.rbms.length - 1, top = model.rbms[count], states = [v];
  for (const rbm of model.rbms.slice(0, -1)) states.push(sampleUp(rbm, states.at(-1), random, temperature));
  const seen = new Float64Array(top.visible.size);
  seen.set(labels, seen.length - labels.length);
  seen.set(states.at(-1));
  let h = sampleUp(top, withLabel(model, seen, label), random, temperature);
  const layers = [h];
  for (let k = count; k > 0; k--) {
    h = sampleDown(k === count ? top : model.down[k], h, random, temperature);
    if (k === count) {
      labels = withLabel(model, h, label).slice(h.length - labels.length);
      h = h.slice(0, h.length - labels.length);
    }
    layers.unshift(h);
  }
  const { visible, field } = count ? outputOf(model.down[0], h) : outputOf(top, h);
  return { visible, field, labels, layers };
}

const outputOf = (rbm, h) => ({ visible: rbm.visible, field: visibleField(rbm, h) });

/** E[v | known units], as DBN.impute has it: an average of E[v | h] over `steps` states of h after `discard` others, or
 *  exact where each unknown site of an RBM is alone and discrete. v is 0 where it is unknown. */
function conditional(model, v, known, random, { steps = 100, discard = 20, temperature = 1, label = -1 } = {}) {
  const first = model.rbms[0], isRbm = model.rbms.length === 1, isAbsent = model.missing === "absent";
  const holes = missingSites(first.visible, known);
  const isAlone = isRbm && (isAbsent || holes.length <= 1);
  if (isAlone && holes.every((part) => !part.precision)) {
    return { mean: alone(first, v, known, temperature), classes: [], isExact: true };
  }
  const n = v.length, total = new Float64Array(n), logTotal = new Float64Array(n).fill(-Infinity);
  let state = v, labels = new Float64Array(isRbm ? 0 : model.classes.length);
  const classes = new Float64Array(labels.length);
  for (let step = 0; step < steps + (isAbsent ? 0 : discard); step++) {
    const found = heldStep(model, state, labels, random, temperature, label);
    labels = found.labels;
    if (isAbsent || step >= discard) {
      const now = mean(found.visible, found.field, temperature);
      const logs = isAbsent && isRbm ? siteLogs(found.visible, found.field, temperature) : new Float64Array(n);
      for (let i = 0; i < n; i++) {
        const most = Math.max(logTotal[i], logs[i]);
        const next = most + Math.log(Math.exp(logTotal[i] - most) + Math.exp(logs[i] - most));
        total[i] += (now[i] - total[i]) * Math.exp(logs[i] - next);
        logTotal[i] = next;
      }
      labels.forEach((x, y) => { classes[y] += x / steps; });
    }
    if (!isAbsent) state = heldAt(v, known, sample(found.visible, found.field, random, temperature));
  }
  const exact = isAlone ? alone(first, v, known, temperature) : null;
  const expected = total.map((x, i) => (exact && isDiscrete(first.visible, i) ? exact[i] : x));
  return { mean: heldAt(v, known, expected), classes, isExact: false };
}

/** x with the known values of v. */
const heldAt = (v, known, x) => x.map((value, i) => (known[i] ? v[i] : value));

/** The parts of a layer, once for each site of theirs that is unknown. */
function missingSites(units, known) {
  return units.flatMap((part) => {
    const width = part.kind === "categorical" ? part.states : 1;
    const sites = Array.from({ length: part.size / width }, (_, k) => part.at + k * width);
    return sites.filter((place) => !known[place]).map(() => part);
  });
}

const isDiscrete = (units, place) =>
  units.some((part) => !part.precision && part.at <= place && place < part.at + part.size);
