// Images on canvases, and a canvas that is drawn on by pointer and keys.

const DARK = [16, 19, 26], WARM = [255, 205, 110], COLD = [110, 170, 255];

/** A picture on a canvas, a pixel a value: `color(k)` gives [r, g, b] of place k, row by row. */
function paint(canvas, width, height, color) {
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  for (let k = 0; k < width * height; k++) image.data.set([...color(k), 255], 4 * k);
  context.putImageData(image, 0, 0);
}

/** Values of an image, channels first, from black at `least` to white at `greatest`. */
function paintImage(canvas, image, values) {
  const [channels, height, width] = image.shape, area = height * width;
  const byte = (x) => Math.round(255 * Math.min(Math.max((x - image.least) / (image.greatest - image.least), 0), 1));
  paint(canvas, width, height, (k) => [0, 1, 2].map((c) => byte(values[(channels > 1 ? c : 0) * area + k])));
}

/** Activities in about a square: bright where they are high, blue where they are below 0, dark at 0. */
function paintUnits(canvas, values, scale) {
  const width = Math.ceil(Math.sqrt(values.length)), height = Math.ceil(values.length / width);
  paint(canvas, width, height, (k) => {
    const t = k < values.length ? Math.min(Math.max(values[k] / scale, -1), 1) : 0;
    return DARK.map((dark, c) => Math.round(dark + Math.abs(t) * ((t < 0 ? COLD : WARM)[c] - dark)));
  });
}

/** Values of an image that is drawn on `canvas`; `changed` is called after every change, `pen()` gives its color by
 *  channel and its width in pixels. */
function drawingOn(canvas, image, pen, changed) {
  const [channels, height, width] = image.shape, area = height * width;
  const values = new Float64Array(channels * area).fill(image.least);
  let before = values.slice(), cover = new Float64Array(area), last = null, cursor = null, isLowered = false;

  const begin = () => {
    before = values.slice();
    cover = new Float64Array(area);
    last = null;
  };

  /** A round dot with a soft edge, mixed with what was there when the stroke began. */
  const dot = (x, y) => {
    const { color, size } = pen(), reach = Math.ceil(size + 1);
    for (let i = Math.max(0, Math.floor(y) - reach); i <= Math.min(height - 1, y + reach); i++) {
      for (let j = Math.max(0, Math.floor(x) - reach); j <= Math.min(width - 1, x + reach); j++) {
        const k = i * width + j, share = Math.min(Math.max(size + 0.5 - Math.hypot(j + 0.5 - x, i + 0.5 - y), 0), 1);
        cover[k] = Math.max(cover[k], image.whole ? Math.round(share) : share);
        color.forEach((c, channel) => {
          const place = channel * area + k;
          values[place] = before[place] + cover[k] * (c - before[place]);
        });
      }
    }
  };

  const lineTo = (x, y) => {
    const [x0, y0] = last || [x, y], parts = Math.max(1, Math.ceil(2 * Math.hypot(x - x0, y - y0)));
    for (let k = 1; k <= parts; k++) dot(x0 + ((x - x0) * k) / parts, y0 + ((y - y0) * k) / parts);
    last = [x, y];
    show();
    changed();
  };

  const show = () => {
    paintImage(canvas, image, values);
    if (!cursor) return;
    const context = canvas.getContext("2d");
    context.fillStyle = isLowered ? "#ff5a4f" : "#4fa3ff";
    context.fillRect(cursor[0], cursor[1], 1, 1);
  };

  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * width, ((event.clientY - box.top) / box.height) * height];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    cursor = null;
    begin();
    lineTo(...at(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (canvas.hasPointerCapture(event.pointerId)) lineTo(...at(event));
  });
  const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    const move = MOVES[event.key];
    if (!move && event.key !== " ") return;
    event.preventDefault();
    cursor = cursor || [width >> 1, height >> 1];
    if (move) {
      cursor = [(cursor[0] + move[0] + width) % width, (cursor[1] + move[1] + height) % height];
    } else {
      isLowered = !isLowered;
      begin();
    }
    if (isLowered) dot(cursor[0] + 0.5, cursor[1] + 0.5);
    show();
    if (isLowered) changed();
  });
  canvas.addEventListener("blur", () => {
    cursor = null;
    isLowered = false;
    show();
  });
  show();
  return { values, set: (next) => { values.set(next); begin(); show(); changed(); } };
}

/** A gray image moved by whole pixels so that the center of its brightness is in the middle, as digits of MNIST are. */
function centered(image, values) {
  const [, height, width] = image.shape;
  let sum = 0, x = 0, y = 0;
  values.forEach((value, k) => {
    const weight = value - image.least;
    sum += weight;
    x += weight * (k % width);
    y += weight * Math.floor(k / width);
  });
  if (!sum) return values;
  const dx = Math.round((width - 1) / 2 - x / sum), dy = Math.round((height - 1) / 2 - y / sum);
  return values.map((_, k) => {
    const j = (k % width) - dx, i = Math.floor(k / width) - dy;
    return j >= 0 && j < width && i >= 0 && i < height ? values[i * width + j] : image.least;
  });
}
