"use strict";
// The model of the page: means of its layers, reconstructions and class probabilities, without random numbers.
//
// Units are exponential families, as in dbn/models/units: under an input `field` a unit has the natural parameter
// a = field + bias, and those of real values a precision λ. A temperature divides all parameters, also weights.

const bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const singles = (text) => new Float32Array(bytesOf(text).buffer); // little-endian, as every browser's machine is
const halves = (text) => Float32Array.from(new Uint16Array(bytesOf(text).buffer), halfToNumber);

function halfToNumber(bits) {
  const exponent = (bits >> 10) & 31, fraction = bits & 1023;
  const size = exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24;
  return bits & 32768 ? -size : size;
}

/** Weights and parameters as arrays, in place of their text; parts of a layer with the place of their first unit. */
function prepare(model) {
  const weights = model.weights === "float16" ? halves : singles;
  const parts = (units) => {
    let at = 0;
    for (const part of units) {
      part.bias = singles(part.bias);
      part.precision = part.precision ? singles(part.precision) : null;
      part.at = at;
      at += part.size;
    }
    units.size = at;
  };
  for (const rbm of [...model.rbms, ...(model.down || [])]) {
    rbm.weight = weights(rbm.weight);
    parts(rbm.visible);
    parts(rbm.hidden);
  }
  for (const layer of model.network ? model.network.layers : []) {
    layer.weight = weights(layer.weight);
    layer.bias = singles(layer.bias);
  }
  model.down = model.down || model.rbms.slice(0, -1);
  return model;
}

const sigmoid = (a) => 1 / (1 + Math.exp(-a));
const softplus = (a) => Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)));

/** By kind of unit: E[x | a] and log Σ_x exp(a·x + …), of a, λ and the number of trials. */
const KINDS = {
  bernoulli: { mean: sigmoid, log: softplus },
  spin: { mean: Math.tanh, log: (a) => Math.abs(a) + Math.log1p(Math.exp(-2 * Math.abs(a))) },
  binomial: { mean: (a, _, n) => n * sigmoid(a), log: (a, _, n) => n * softplus(a) },
  gaussian: { mean: (a, l) => a / l, log: (a, l) => (a * a) / (2 * l) + 0.5 * Math.log((2 * Math.PI) / l) },
  relu: {
    mean: (a, l) => halfLineMean(a / Math.sqrt(l)) / Math.sqrt(l),
    log: (a, l) => halfLineLog(a / Math.sqrt(l)) - 0.5 * Math.log(l),
  },
};

/** Q(x)/φ(x), the upper tail of the normal distribution over its density: by series up to 3, by a fraction beyond. */
function tailOverDensity(x) {
  if (x > 3) {
    let rest = 0;
    for (let k = 60; k > 0; k--) rest = k / (x + rest);
    return 1 / (x + rest);
  }
  let term = Math.abs(x), sum = term;
  for (let n = 3; term > sum * 1e-17; n += 2) sum += term *= (x * x) / n;
  return Math.sqrt(Math.PI / 2) * Math.exp((x * x) / 2) - Math.sign(x) * sum;
}

const FAR = 8; // from here on Φ(t) is 1 to the precision of what follows

/** The mean of p(s) ∝ exp(t·s − s²/2), s ≥ 0: t + φ(t)/Φ(t); far down by Laplace's fraction, as these cancel. */
function halfLineMean(t) {
  if (t > FAR) return t;
  if (t > -5) return t + 1 / tailOverDensity(-t);
  let rest = 0;
  for (let k = 60; k > 1; k--) rest = k / (rest - t);
  return 1 / (rest - t);
}

/** log ∫₀^∞ exp(t·s − s²/2) ds. */
const halfLineLog = (t) =>
  t > FAR ? (t * t) / 2 + 0.5 * Math.log(2 * Math.PI) : Math.log(tailOverDensity(-t));

/** W v, the input of the hidden units. */
function hiddenField(rbm, v) {
  return product(rbm.weight, v, rbm.hidden.size);
}

function product(weight, x, rows) {
  const field = new Float64Array(rows), n = x.length;
  for (let j = 0, at = 0; j < rows; j++, at += n) {
    let sum = 0;
    for (let i = 0; i < n; i++) sum += weight[at + i] * x[i];
    field[j] = sum;
  }
  return field;
}

/** Wᵀ h, the input of the visible units. */
function visibleField(rbm, h) {
  const n = rbm.visible.size, field = new Float64Array(n), weight = rbm.weight;
  for (let j = 0, at = 0; j < h.length; j++, at += n) {
    const x = h[j];
    if (x !== 0) for (let i = 0; i < n; i++) field[i] += x * weight[at + i];
  }
  return field;
}

/** `each(part, a, λ, place)` for every unit, or `group(part, a of the group, place)` for every group of categories. */
function forUnits(units, field, temperature, each, group) {
  for (const part of units) {
    if (part.kind === "categorical") {
      for (let first = 0; first < part.size; first += part.states) {
        const a = new Float64Array(part.states);
        for (let s = 0; s < part.states; s++) {
          a[s] = (field[part.at + first + s] + part.bias[first + s]) / temperature;
        }
        group(part, a, part.at + first);
      }
    } else {
      for (let i = 0; i < part.size; i++) {
        const l = part.precision ? part.precision[i] / temperature : 1;
        each(part, (field[part.at + i] + part.bias[i]) / temperature, l, part.at + i);
      }
    }
  }
}

function softmax(a) {
  const most = a.reduce((x, y) => Math.max(x, y), -Infinity);
  const powers = Float64Array.from(a, (x) => Math.exp(x - most));
  const sum = powers.reduce((x, y) => x + y, 0);
  return powers.map((x) => x / sum);
}

function logSum(a) {
  const most = a.reduce((x, y) => Math.max(x, y), -Infinity);
  return most + Math.log(a.reduce((sum, x) => sum + Math.exp(x - most), 0));
}

/** E[x | field] of a layer. */
function mean(units, field, temperature = 1) {
  const x = new Float64Array(units.size);
  forUnits(units, field, temperature,
    (part, a, l, place) => { x[place] = KINDS[part.kind].mean(a, l, part.trials); },
    (part, a, place) => x.set(softmax(a), place));
  return x;
}

/** For every unit the log-partition of its site, which a group of categories is as a whole. */
function siteLogs(units, field, temperature = 1) {
  const x = new Float64Array(units.size);
  forUnits(units, field, temperature,
    (part, a, l, place) => { x[place] = KINDS[part.kind].log(a, l, part.trials); },
    (part, a, place) => x.fill(logSum(a), place, place + part.states));
  return x;
}

/** The log-partition of a layer, nats. */
function logPartition(units, field, temperature = 1) {
  let sum = 0;
  forUnits(units, field, temperature,
    (part, a, l) => { sum += KINDS[part.kind].log(a, l, part.trials); },
    (part, a) => { sum += logSum(a); });
  return sum;
}

const up = (rbm, v, temperature) => mean(rbm.hidden, hiddenField(rbm, v), temperature);
const down = (rbm, h, temperature) => mean(rbm.visible, visibleField(rbm, h), temperature);

/** What the data become for the model: categories one-hot, numbers standardized. */
function scaled(model, row) {
  const v = [];
  row.forEach((value, column) => {
    const states = model.scaling.codes ? model.scaling.codes[column] : 0;
    if (states) for (let s = 0; s < states; s++) v.push(value === s ? 1 : 0);
    else v.push(value);
  });
  const { shift, spread } = model.scaling;
  return Float64Array.from(v, (x, i) => (shift ? (x - shift[i]) / spread[i] : x));
}

/** The inverse for numbers; of categories their probabilities, as they are. */
function unscaled(model, v) {
  const { shift, spread } = model.scaling;
  return Float64Array.from(v, (x, i) => (shift ? x * spread[i] + shift[i] : x));
}

/** Which units are known, where `known` says so of the columns of data. */
function unitsOf(model, known) {
  const codes = model.scaling.codes;
  return known.flatMap((is, column) => new Array((codes && codes[column]) || 1).fill(is));
}

/** The mean of each layer given that of the one below, the lowest first. Labels of the top are taken as unknown. */
function activities(model, v) {
  const found = [];
  model.rbms.forEach((rbm, layer) => {
    const below = layer ? found[layer - 1] : v;
    const isLabeled = model.classes.length && layer === model.rbms.length - 1;
    found.push(isLabeled ? labeledUp(rbm, below, classFields(model, below)) : up(rbm, below));
  });
  return found;
}

/** Through all layers by means, and back: E[v | …]. */
function reconstruction(model, v, found = activities(model, v)) {
  let h = down(model.rbms.at(-1), found.at(-1));
  h = model.classes.length ? h.subarray(0, h.length - model.classes.length) : h;
  for (const rbm of [...model.down].reverse()) h = down(rbm, h);
  return h;
}

/** The input of the hidden units with each class, of features x. */
function classFields(model, x) {
  const rbm = model.rbms.at(-1), n = rbm.visible.size, count = model.classes.length;
  const padded = new Float64Array(n);
  padded.set(x);
  const field = hiddenField(rbm, padded);
  return model.classes.map((_, y) => field.map((f, j) => f + rbm.weight[j * n + n - count + y]));
}

/** p(y | x) = softmax_y of bias_y + log Σ_h exp(h·field_y + …), exactly. */
function classesGiven(rbm, fields, temperature = 1) {
  const labels = rbm.visible.at(-1);
  return softmax(fields.map((field, y) => labels.bias[y] / temperature + logPartition(rbm.hidden, field, temperature)));
}

/** E[h | x] = Σ_y p(y | x)·E[h | x, y]. */
function labeledUp(rbm, x, fields) {
  const h = new Float64Array(rbm.hidden.size);
  classesGiven(rbm, fields).forEach((p, y) => mean(rbm.hidden, fields[y]).forEach((m, j) => { h[j] += p * m; }));
  return h;
}

/** Class probabilities of a label model. */
function classProbabilities(model, v) {
  const features = model.rbms.slice(0, -1).reduce((x, rbm) => up(rbm, x), v);
  return classesGiven(model.rbms.at(-1), classFields(model, features));
}

const ACTIVATIONS = {
  identity: (a) => a,
  sigmoid,
  tanh: Math.tanh,
  relu: (a) => Math.max(a, 0),
  silu: (a) => a * sigmoid(a),
  selu: (a) => 1.0507009873554805 * (a > 0 ? a : 1.6732632423543772 * Math.expm1(a)),
  gelu: (a) => (a > 0 ? a : 0) - Math.abs(a) * lowerTail(-Math.abs(a)),
};

/** Φ(x) for x ≤ 0. */
const lowerTail = (x) => (tailOverDensity(-x) * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI);

/** The activities of all layers of a network; the last are its outputs. */
function networkActivities(network, v) {
  const found = [];
  for (const layer of network.layers) {
    const field = product(layer.weight, found.length ? found.at(-1) : v, layer.bias.length);
    const a = field.map((x, j) => x + layer.bias[j]);
    if (layer.states) {
      for (let at = 0; at < a.length; at += layer.states) a.set(softmax(a.subarray(at, at + layer.states)), at);
      found.push(a);
    } else {
      found.push(a.map(ACTIVATIONS[layer.activation]));
    }
  }
  return found;
}

/** What the outputs of a network mean: probabilities, numbers in the units of the targets, or values of the data. */
function answersOf(network, outputs) {
  if (network.answers === "classes") return softmax(outputs);
  if (network.answers === "labels") return outputs.map(sigmoid);
  return outputs.map((x, i) => (network.shift ? network.shift[i] + network.spread[i] * x : x));
}

/** log p(site i has state s | known units) of every discrete site that is alone beside the known ones, exactly:
 *  the softmax over s of −F(v with s at i). v is 0 where it is not known. */
function alone(rbm, v, known, temperature = 1) {
  const n = rbm.visible.size, field = hiddenField(rbm, v), x = Float64Array.from(v);
  const score = (columns, bias) => {
    const total = field.map((f, j) => columns.reduce((sum, [i, value]) => sum + value * rbm.weight[j * n + i], f));
    return bias + logPartition(rbm.hidden, total, temperature);
  };
  for (const part of rbm.visible) {
    const width = part.kind === "categorical" ? part.states : 1;
    for (let first = 0; first < part.size; first += width) {
      const place = part.at + first;
      if (known[place] || part.precision) continue;
      if (width > 1) {
        const state = (_, s) => score([[place + s, 1]], part.bias[first + s] / temperature);
        x.set(softmax(Array.from({ length: width }, state)), place);
      } else {
        const states = statesOf(part);
        const scores = states.map((s) => score([[place, s]], (s * part.bias[first]) / temperature + logWays(part, s)));
        x[place] = softmax(scores).reduce((sum, p, k) => sum + p * states[k], 0);
      }
    }
  }
  return x;
}

const statesOf = (part) =>
  part.kind === "spin" ? [-1, 1] : Array.from({ length: (part.trials || 1) + 1 }, (_, count) => count);

/** log C(n, x), the measure of counts, which no temperature divides. */
function logWays(part, x) {
  let sum = 0;
  for (let k = 1; part.trials && k <= x; k++) sum += Math.log((part.trials - x + k) / k);
  return sum;
}
