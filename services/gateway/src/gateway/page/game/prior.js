// The picture that one has without learning: pull-push interpolation (Gortler et al. 1996) of the samples, made
// to agree with their means. It is what the server's model starts from (sgaps/model/prior.py), so the difference
// between the two pictures is what the model knows. A grid is {width, height, data: Float32Array}.

const FOOTPRINT_LEVELS = 7;
const MID_GRAY = 127.5;

/** values (N) at the places of a set → Uint8Array, width x height. */
export function interpolated(set, values, width, height) {
  const levels = splat(set, values, width, height);
  const frame = agreeing(pullPush(levels), levels);
  return Uint8Array.from(frame.data, value => Math.min(255, Math.max(0, Math.round(value))));
}

const grid = (width, height) => ({ width, height, data: new Float32Array(width * height) });
const half = length => Math.ceil(length / 2);

/** For each level l, what is known of the cells of 2^l pixels: {mean, known}, known being 1 or 0. */
function splat({ u, v, sidePx }, values, width, height) {
  const levels = [];
  for (let [w, h] = [width, height]; levels.length < FOOTPRINT_LEVELS; [w, h] = [half(w), half(h)]) {
    levels.push({ mean: grid(w, h), known: grid(w, h) });
  }
  values.forEach((value, n) => {
    const { mean, known } = levels[Math.log2(sidePx[n])];
    const x = Math.min(Math.floor((u[n] * width) / sidePx[n]), mean.width - 1);
    const y = Math.min(Math.floor((v[n] * height) / sidePx[n]), mean.height - 1);
    mean.data[y * mean.width + x] += value;
    known.data[y * mean.width + x] += 1;
  });
  for (const { mean, known } of levels) {
    mean.data.forEach((sum, n) => { mean.data[n] = sum / Math.max(1, known.data[n]); });
    known.data.forEach((count, n) => { known.data[n] = Math.min(1, count); });
  }
  return levels;
}

function pullPush(levels) {
  const pyramid = [{ value: levels[0].mean, weight: levels[0].known }];
  for (let finest = pyramid[0]; finest.value.width > 1 || finest.value.height > 1; finest = pyramid.at(-1)) {
    const coarser = pulled(finest);
    pyramid.push(pyramid.length < FOOTPRINT_LEVELS ? replaced(coarser, levels[pyramid.length]) : coarser);
  }
  const coarsest = pyramid.pop();
  let filled = coarsest.weight.data[0] > 0 ? coarsest.value : { ...coarsest.value, data: Float32Array.of(MID_GRAY) };
  while (pyramid.length) filled = pushed(pyramid.pop(), filled);
  return filled;
}

/** One level coarser: the weighted mean of what is known in 2 x 2. */
function pulled({ value, weight }) {
  const mass = halved(weight);
  const mean = halved({ ...value, data: value.data.map((x, n) => x * weight.data[n]) });
  mean.data.forEach((x, n) => { mean.data[n] = x / Math.max(mass.data[n], 1e-6); });
  mass.data.forEach((x, n) => { mass.data[n] = Math.min(1, 4 * x); });
  return { value: mean, weight: mass };
}

/** A sampled mean of the whole cell is better than a mean of some of its pixels. */
function replaced({ value, weight }, { mean, known }) {
  known.data.forEach((isKnown, n) => {
    if (isKnown) [value.data[n], weight.data[n]] = [mean.data[n], 1];
  });
  return { value, weight };
}

/** What is known stays, the rest comes smoothed from the coarser level. */
function pushed({ value, weight }, coarser) {
  const filled = smoothed(enlarged(coarser, value.width, value.height));
  filled.data.forEach((x, n) => { filled.data[n] = x + weight.data[n] * (value.data[n] - x); });
  return filled;
}

/** Of all pictures with the sampled means, the nearest one. */
function agreeing(frame, levels) {
  const pyramid = [frame];
  while (pyramid.length < levels.length) pyramid.push(halved(pyramid.at(-1)));
  let correction = grid(pyramid.at(-1).width, pyramid.at(-1).height);
  for (let level = levels.length - 1; level >= 0; level--) {
    const { mean, known } = levels[level];
    correction = repeated(correction, mean.width, mean.height);
    known.data.forEach((isKnown, n) => {
      if (isKnown) correction.data[n] = mean.data[n] - pyramid[level].data[n];
    });
  }
  return { ...frame, data: frame.data.map((x, n) => x + correction.data[n]) };
}

/** Means of 2 x 2, or of what lies inside at the border. */
function halved({ width, height, data }) {
  const small = grid(half(width), half(height));
  for (let y = 0, n = 0; y < height; y += 2) {
    const below = y + 1 < height ? width : 0;
    for (let x = 0; x < width; x += 2, n++) {
      const at = y * width + x, right = x + 1 < width ? 1 : 0;
      small.data[n] = (data[at] + data[at + right] + data[at + below] + data[at + below + right]) / 4;
    }
  }
  return small;
}

/** Each cell twice in each direction, cut to a size that may be the same. */
function repeated({ width, height, data }, newWidth, newHeight) {
  const large = grid(newWidth, newHeight);
  const [shiftX, shiftY] = [newWidth > width ? 1 : 0, newHeight > height ? 1 : 0];
  for (let y = 0, n = 0; y < newHeight; y++) {
    for (let x = 0; x < newWidth; x++, n++) large.data[n] = data[(y >> shiftY) * width + (x >> shiftX)];
  }
  return large;
}

/** Bilinear, pixel centres in the middle of their cells. */
function enlarged(picture, newWidth, newHeight) {
  const { width, height } = picture;
  const across = enlargedAlong(picture.data, steps(width, newWidth), 1, newWidth, height, width);
  const data = enlargedAlong(across, steps(height, newHeight), newWidth, newHeight, newWidth, 1);
  // The second turn wrote columns as rows.
  const large = grid(newWidth, newHeight);
  for (let y = 0, n = 0; y < newHeight; y++) for (let x = 0; x < newWidth; x++) large.data[n++] = data[x * newHeight + y];
  return large;
}

/** Each line, `lineStep` from the last one and its values `step` apart, with a new length: one after the other. */
function enlargedAlong(data, { first, second, share }, step, newLength, lines, lineStep) {
  const out = new Float32Array(lines * newLength);
  for (let line = 0, n = 0; line < lines; line++) {
    const start = line * lineStep;
    for (let at = 0; at < newLength; at++) {
      const from = data[start + first[at] * step];
      out[n++] = from + share[at] * (data[start + second[at] * step] - from);
    }
  }
  return out;
}

/** For each new cell the two old ones beside it, and the share of the second. */
function steps(length, newLength) {
  const at = Float32Array.from({ length: newLength }, (_, n) => Math.max(0, ((n + 0.5) * length) / newLength - 0.5));
  const first = Uint16Array.from(at, Math.floor);
  return { first, second: first.map(n => Math.min(n + 1, length - 1)), share: at.map((place, n) => place - first[n]) };
}

/** The mean of each cell and its neighbours, along both directions. */
function smoothed({ width, height, data }) {
  const across = smoothedAlong(data, width, 1, height, width);
  return { width, height, data: smoothedAlong(across, height, width, width, 1) };
}

function smoothedAlong(data, length, step, lines, lineStep) {
  if (length === 1) return data;
  const out = new Float32Array(data.length);
  for (let line = 0; line < lines; line++) {
    for (let n = 0, at = line * lineStep; n < length; n++, at += step) {
      const before = n > 0 ? data[at - step] : 0, after = n < length - 1 ? data[at + step] : 0;
      out[at] = (before + data[at] + after) / (n > 0 && n < length - 1 ? 3 : 2);
    }
  }
  return out;
}
