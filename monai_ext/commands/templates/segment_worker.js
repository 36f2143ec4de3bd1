// Prediction in a worker: the steps of `predict`, around the network in ONNX Runtime, whose script stands before this one.
"use strict";
let settings, network, draw;

onmessage = async ({ data }) => {
  try {
    if (data.settings) postMessage({ ready: await start(data) });
    else {
      const found = await (settings.kind === "raters" ? ofRaters(data) : ofPhotograph(data));
      postMessage({ number: data.number, found }, [found.map.buffer, ...(found.masks || []).map((mask) => mask.buffer)]);
    }
  } catch (error) {
    postMessage({ number: data.number, error: String(error.message || error) });
  }
};

async function start(data) {
  settings = data.settings;
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = data.wasm;
  network = await ort.InferenceSession.create(data.network);
  if (data.draw) draw = await ort.InferenceSession.create(data.draw);
  return true;
}

const told = (number, done, all) => postMessage({ number, done, all });

// ---- photographs: sizes and flips averaged as logits

async function ofPhotograph({ number, pixels, height, width }) {
  const [rows, columns] = settings.size;
  const small = resizedPicture(pixels, height, width, rows, columns);
  const image = planes(3, rows * columns, (channel, at) => (small[3 * at + channel] - settings.subtract[channel]) / settings.divide[channel]);
  const total = new Float32Array(rows * columns);
  const all = settings.sizes.length * settings.flips.length;
  let done = 0;
  for (const [h, w] of settings.sizes) {
    const seen = resized(image, 3, rows, columns, h, w);
    const sum = new Float32Array(h * w);
    for (const flips of settings.flips) {
      const logits = flipped((await run(network, flipped(seen, 3, h, w, flips), [1, 3, h, w])).pred.data, 1, h, w, flips);
      for (let at = 0; at < sum.length; at++) sum[at] += logits[at] / settings.flips.length;
      told(number, ++done, all);
    }
    const back = resized(sum, 1, h, w, rows, columns);
    for (let at = 0; at < total.length; at++) total[at] += back[at] / settings.sizes.length;
  }
  const map = resized(total.map(sigmoid), 1, rows, columns, height, width);
  if (settings.adaptive) adapt(map, settings.threshold);
  temper(map);
  if (settings.one_object) keepCentral(map, height, width, settings.threshold);
  return { map, region: [0, 0, height, width] };
}

// ---- several raters: a region of interest, symmetries averaged as probabilities, masks drawn from the mean maps

async function ofRaters({ number, pixels, height, width, centre }) {
  const region = regionOf(height, width, centre || settings.centre);
  const [top, left, tall, wide] = region;
  const [rows, columns] = settings.size;
  const whole = normalised(pixels, height * width);
  const cut = planes(settings.channels, tall * wide, (channel, at) =>
    whole[channel * height * width + (top + Math.floor(at / wide)) * width + left + (at % wide)]);
  const image = resized(cut, settings.channels, tall, wide, rows, columns);
  let maps, heads, done = 0;
  for (const [turns, flip] of settings.symmetries) {
    const moved = turned(flip ? flipped(image, settings.channels, rows, columns, [1]) : image, settings.channels, rows, columns, turns);
    const sides = turns % 2 ? [columns, rows] : [rows, columns];
    const logits = (await run(network, moved, [1, settings.channels, ...sides])).pred;
    heads = logits.dims[1];
    let back = turned(logits.data, heads, ...sides, (4 - turns) % 4);
    if (flip) back = flipped(back, heads, rows, columns, [1]);
    maps ||= new Float32Array(back.length);
    for (let at = 0; at < maps.length; at++) maps[at] += sigmoid(back[at]) / settings.symmetries.length;
    told(number, ++done, settings.symmetries.length);
  }
  const drawn = await run(draw, maps, [1, heads, rows, columns]);
  temper(drawn.share.data);
  const restored = (values) => limited(resized(values, 1, rows, columns, tall, wide), values);
  const count = settings.names.length, size = rows * columns;
  const masks = Array.from({ length: count }, (_, k) => {
    const one = restored(drawn.masks.data.subarray(k * size, (k + 1) * size));
    return Uint8Array.from(one, (value) => value > 0.5);
  });
  return { map: restored(drawn.share.data), masks, region };
}

function regionOf(height, width, centre) {
  const tall = Math.max(1, evenRound(height / settings.zoom)), wide = Math.max(1, evenRound(width / settings.zoom));
  const [row, column] = centre || [height / 2, width / 2];
  const inside = (start, room) => Math.min(Math.max(evenRound(start), 0), room);
  return [inside(row - tall / 2, height - tall), inside(column - wide / 2, width - wide), tall, wide];
}

function normalised(pixels, count) {
  const grey = settings.channels === 1;
  const whole = planes(settings.channels, count, (channel, at) => {
    const opaque = pixels[4 * at + 3] / 255; // transparency is laid over black
    const value = (band) => Math.round(pixels[4 * at + band] * opaque);
    return grey ? evenRound(Math.round((0.299 * value(0) + 0.587 * value(1) + 0.114 * value(2)) * 1e6) / 1e6) : value(channel);
  });
  for (let channel = 0; channel < settings.channels; channel++) {
    const plane = whole.subarray(channel * count, (channel + 1) * count);
    if (settings.window) {
      const [level, span] = settings.window;
      for (let at = 0; at < count; at++) plane[at] = Math.min(Math.max((plane[at] - (level - span / 2)) / span, 0), 1);
    }
    if (!settings.normalise) continue;
    const sorted = Float32Array.from(plane).sort();
    const [low, high] = settings.percentiles.map((share) => {
      const place = (share / 100) * (count - 1), below = Math.floor(place);
      return sorted[below] + (sorted[Math.min(below + 1, count - 1)] - sorted[below]) * (place - below);
    });
    for (let at = 0; at < count; at++) plane[at] = Math.min(Math.max(plane[at], low), high);
    let shift = low, scale = high - low;
    if (settings.normalise === "zscore") {
      shift = plane.reduce((sum, value) => sum + value, 0) / count;
      scale = Math.sqrt(plane.reduce((sum, value) => sum + (value - shift) ** 2, 0) / count);
    }
    for (let at = 0; at < count; at++) plane[at] = high === low ? 0 : (plane[at] - shift) / scale;
  }
  return whole;
}

// ---- arrays of planes, one after the other, each row by row

const run = (session, values, sides) => session.run({ image: new ort.Tensor("float32", values, sides) });
const sigmoid = (value) => 1 / (1 + Math.exp(-value));
const evenRound = (value) => (value % 1 === 0.5 || value % 1 === -0.5 ? 2 * Math.round(value / 2) : Math.round(value));

function temper(map) {
  if (settings.temperature === 1) return;
  for (let at = 0; at < map.length; at++) map[at] = sigmoid(Math.log(map[at] / (1 - map[at])) / settings.temperature);
}

// As AdaptiveThresholdd.
function adapt(map, threshold) {
  const { gain, tolerance, at_most: atMost } = settings.adaptive;
  const logit = (value) => Math.min(Math.max(Math.log(value / (1 - value)), -16), 16), middle = logit(threshold);
  let largest = -Infinity, wide = 0, narrow = 0;
  for (const value of map) {
    const above = logit(value) - middle;
    largest = Math.max(largest, above);
    if (above > -1) wide++;
    if (above > 1) narrow++;
  }
  if (largest <= 0) return;
  const uncertainty = narrow ? Math.log(wide / narrow) : Infinity;
  const shift = Math.min(Math.max(gain * (uncertainty - tolerance), 0), atMost, largest / 2);
  if (shift > 0) for (let at = 0; at < map.length; at++) map[at] = sigmoid(logit(map[at]) - shift);
}

function planes(channels, count, value) {
  const made = new Float32Array(channels * count);
  for (let channel = 0; channel < channels; channel++)
    for (let at = 0; at < count; at++) made[channel * count + at] = value(channel, at);
  return made;
}

function limited(values, by) {
  let low = Infinity, high = -Infinity;
  for (const value of by) { low = Math.min(low, value); high = Math.max(high, value); }
  return values.map((value) => Math.min(Math.max(value, low), high));
}

function flipped(values, channels, rows, columns, axes) {
  if (!axes.length) return values;
  const made = new Float32Array(values.length), upDown = axes.includes(0), leftRight = axes.includes(1);
  for (let channel = 0; channel < channels; channel++)
    for (let row = 0; row < rows; row++)
      for (let column = 0; column < columns; column++)
        made[(channel * rows + row) * columns + column] =
          values[(channel * rows + (upDown ? rows - 1 - row : row)) * columns + (leftRight ? columns - 1 - column : column)];
  return made;
}

function turned(values, channels, rows, columns, turns) { // counter-clockwise quarter turns, as torch.rot90
  for (; turns > 0; turns--) {
    const made = new Float32Array(values.length);
    for (let channel = 0; channel < channels; channel++)
      for (let row = 0; row < columns; row++)
        for (let column = 0; column < rows; column++)
          made[(channel * columns + row) * rows + column] = values[(channel * rows + column) * columns + columns - 1 - row];
    values = made;
    [rows, columns] = [columns, rows];
  }
  return values;
}

// ---- resizing: bilinear, antialiased where a side shrinks, pixel centres aligned, as in Pillow and PyTorch

function weightsOf(length, result, start = 0, end = length) {
  const scale = (end - start) / result, reach = Math.max(scale, 1), narrower = 1 / reach, firsts = [], rows = [];
  for (let place = 0; place < result; place++) {
    const middle = start + (place + 0.5) * scale;
    const first = Math.max(Math.trunc(middle - reach + 0.5), 0), last = Math.min(Math.trunc(middle + reach + 0.5), length);
    const weights = [];
    for (let at = first; at < last; at++) weights.push(Math.max(0, 1 - Math.abs((at - middle + 0.5) * narrower)));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    firsts.push(first);
    rows.push(weights.map((weight) => weight / sum));
  }
  return { firsts, rows };
}

function resized(values, channels, rows, columns, h, w) {
  if (rows === h && columns === w) return values;
  const across = weightsOf(columns, w), down = weightsOf(rows, h);
  const narrow = new Float32Array(channels * rows * w), made = new Float32Array(channels * h * w);
  for (let line = 0; line < channels * rows; line++)
    for (let column = 0; column < w; column++) {
      const weights = across.rows[column], from = line * columns + across.firsts[column];
      let sum = 0;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * values[from + k];
      narrow[line * w + column] = sum;
    }
  for (let channel = 0; channel < channels; channel++)
    for (let row = 0; row < h; row++) {
      const weights = down.rows[row], first = channel * rows + down.firsts[row], to = (channel * h + row) * w;
      for (let k = 0; k < weights.length; k++)
        for (let column = 0, from = (first + k) * w; column < w; column++) made[to + column] += weights[k] * narrow[from + column];
    }
  return made;
}

// As `Image.resize(size, BILINEAR, reducing_gap=3)` on 8 bits: block means, then columns, then rows, rounded each time.
function resizedPicture(pixels, height, width, h, w) {
  const opaque = new Uint8Array(3 * height * width);
  for (let at = 0, to = 0; at < pixels.length; at += 4)
    for (let band = 0; band < 3; band++, to++) opaque[to] = pixels[at + 3] === 255 ? pixels[at + band] : over(pixels[at + band], pixels[at + 3]);
  if (height === h && width === w) return opaque;
  const across = Math.trunc(width / w / 3) || 1, down = Math.trunc(height / h / 3) || 1;
  const rows = Math.ceil(height / down), columns = Math.ceil(width / across);
  const blocks = across > 1 || down > 1 ? blockMeans(opaque, height, width, down, across) : opaque;
  const narrow = rounded(weightsOf(columns, w, 0, Math.fround(width / across))), short = rounded(weightsOf(rows, h, 0, Math.fround(height / down)));
  const half = new Uint8Array(3 * rows * w), made = new Uint8Array(3 * h * w);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < w; column++)
      for (let band = 0; band < 3; band++) {
        let sum = 2 ** 21;
        narrow.rows[column].forEach((weight, k) => { sum += weight * blocks[3 * (row * columns + narrow.firsts[column] + k) + band]; });
        half[3 * (row * w + column) + band] = byte(sum);
      }
  for (let row = 0; row < h; row++)
    for (let at = 0; at < 3 * w; at++) {
      let sum = 2 ** 21;
      short.rows[row].forEach((weight, k) => { sum += weight * half[3 * w * (short.firsts[row] + k) + at]; });
      made[3 * w * row + at] = byte(sum);
    }
  return made;
}

const over = (value, alpha) => Math.round((value * alpha) / 255);
const byte = (sum) => Math.min(Math.max(Math.floor(sum / 2 ** 22), 0), 255);
const rounded = ({ firsts, rows }) => ({ firsts, rows: rows.map((row) => row.map((weight) => Math.trunc(0.5 + weight * 2 ** 22))) });

function blockMeans(pixels, height, width, down, across) {
  const rows = Math.ceil(height / down), columns = Math.ceil(width / across), made = new Uint8Array(3 * rows * columns);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) {
      const bottom = Math.min((row + 1) * down, height), right = Math.min((column + 1) * across, width);
      const count = (bottom - row * down) * (right - column * across), factor = Math.trunc(2 ** 24 / count);
      const sums = [count >> 1, count >> 1, count >> 1];
      for (let y = row * down; y < bottom; y++)
        for (let x = column * across; x < right; x++)
          for (let band = 0; band < 3; band++) sums[band] += pixels[3 * (y * width + x) + band];
      for (let band = 0; band < 3; band++) made[3 * (row * columns + column) + band] = Math.floor((sums[band] * factor) / 2 ** 24);
    }
  return made;
}

// ---- one object: as KeepCentralComponentd

function keepCentral(map, height, width, threshold) {
  const { labels, count } = components(height, width, (at) => map[at] > threshold, true);
  if (!count) return;
  const bell = (place, side) => Math.exp(-0.5 * (((place + 0.5) / side - 0.5) / 0.2) ** 2);
  const across = Array.from({ length: width }, (_, column) => bell(column, width)), excess = new Float64Array(count + 1);
  for (let row = 0, at = 0; row < height; row++)
    for (let column = 0; column < width; column++, at++)
      if (labels[at]) excess[labels[at]] += (map[at] - threshold) * bell(row, height) * across[column];
  let kept = 1;
  for (let label = 2; label <= count; label++) if (excess[label] > excess[kept]) kept = label;
  const outer = components(height, width, (at) => labels[at] !== kept, false), open = new Uint8Array(outer.count + 1);
  for (let column = 0; column < width; column++) open[outer.labels[column]] = open[outer.labels[(height - 1) * width + column]] = 1;
  for (let row = 0; row < height; row++) open[outer.labels[row * width]] = open[outer.labels[row * width + width - 1]] = 1;
  const margin = 2 ** -22;
  for (let at = 0; at < map.length; at++) {
    const inside = labels[at] === kept || !open[outer.labels[at]];
    map[at] = inside ? Math.max(map[at], threshold * (1 + margin)) : Math.min(map[at], threshold * (1 - margin));
  }
}

function components(height, width, belongs, diagonal) {
  const labels = new Int32Array(height * width), stack = [];
  let count = 0;
  for (let seed = 0; seed < labels.length; seed++) {
    if (labels[seed] || !belongs(seed)) continue;
    labels[seed] = ++count;
    stack.push(seed);
    while (stack.length) {
      const at = stack.pop(), row = Math.floor(at / width), column = at % width;
      for (let y = Math.max(row - 1, 0); y <= Math.min(row + 1, height - 1); y++)
        for (let x = Math.max(column - 1, 0); x <= Math.min(column + 1, width - 1); x++) {
          const next = y * width + x;
          if (labels[next] || (!diagonal && y !== row && x !== column) || !belongs(next)) continue;
          labels[next] = count;
          stack.push(next);
        }
    }
  }
  return { labels, count };
}
