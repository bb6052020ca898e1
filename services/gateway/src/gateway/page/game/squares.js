// Which pixels each sample is the mean of, and those means: as numpy and the Unity package have them, to the
// byte. A picture is a Uint8Array, row by row from the top.

/** The pixels of each place of a set: Uint16Array of x, y, columns, rows. Once for each set. */
export function rectanglesOf({ u, v, sidePx }, width, height) {
  const rectangles = new Uint16Array(4 * u.length);
  u.forEach((_, n) => {
    const [x, columns] = span(u[n], sidePx[n], width);
    const [y, rows] = span(v[n], sidePx[n], height);
    rectangles.set([x, y, columns, rows], 4 * n);
  });
  return rectangles;
}

function span(centre, sidePx, length) {
  const at = centre * length;
  const begin = sidePx === 1 ? Math.min(Math.floor(at), length - 1) : halfToEven(at - sidePx / 2);
  const first = Math.max(begin, 0);
  return [first, Math.min(begin + sidePx, length) - first];
}

function halfToEven(number) {
  const floor = Math.floor(number);
  const rest = number - floor;
  return rest < 0.5 || (rest === 0.5 && floor % 2 === 0) ? floor : floor + 1;
}

/** The mean of each rectangle as a byte: integer sums, rounded half to even. */
export function meansOf(luma, width, rectangles) {
  return Uint8Array.from({ length: rectangles.length / 4 }, (_, n) => {
    const [x, y, columns, rows] = rectangles.subarray(4 * n, 4 * n + 4);
    let sum = 0;
    for (let row = y; row < y + rows; row++) {
      for (let at = row * width + x, end = at + columns; at < end; at++) sum += luma[at];
    }
    return roundedQuotient(sum, columns * rows);
  });
}

function roundedQuotient(sum, count) {
  const quotient = Math.floor(sum / count);
  const twiceRest = 2 * (sum % count);
  return quotient + (twiceRest > count || (twiceRest === count && quotient % 2 === 1) ? 1 : 0);
}
