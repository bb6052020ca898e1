// The place: rooms and corridors on a grid of square cells, one unit each. The same seed, the same maze. x grows
// east, z south; a cell is [x, z].

const SIZE = 23, ROOMS = 7, LOOPS = 26;
const STEPS = [[1, 0], [0, 1], [-1, 0], [0, -1]];

/** Numbers in 0..1 that follow from a seed (mulberry32). */
export function randomOf(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export class Maze {
  size = SIZE;
  #open = new Uint8Array(SIZE * SIZE);

  constructor(seed) {
    const random = randomOf(seed);
    const odd = length => 1 + 2 * Math.floor(random() * ((SIZE - length) / 2));
    this.#carve(random);
    this.rooms = Array.from({ length: ROOMS }, () => {
      const [width, depth] = [3 + 2 * Math.floor(random() * 2), 3 + 2 * Math.floor(random() * 2)];
      return { x: odd(width), z: odd(depth), width, depth };
    });
    for (const room of this.rooms) this.#hollow(room);
    for (let n = 0; n < LOOPS; n++) this.#pierce(random);
    this.cells = [...this.#open.keys()].filter(n => this.#open[n]).map(n => [n % SIZE, Math.floor(n / SIZE)]);
  }

  isOpen(x, z) {
    return x >= 0 && z >= 0 && x < SIZE && z < SIZE && this.#open[z * SIZE + x] === 1;
  }

  /** Which quarter of the maze a cell is in: they differ in stone and light. */
  zoneOf(x, z) {
    return (x * 2 > SIZE ? 1 : 0) + (z * 2 > SIZE ? 2 : 0);
  }

  /** The open cells beside one. */
  neighbours([x, z]) {
    return STEPS.map(([dx, dz]) => [x + dx, z + dz]).filter(([nx, nz]) => this.isOpen(nx, nz));
  }

  /** The shortest way between two open cells, both included. */
  way(from, to) {
    const key = ([x, z]) => z * SIZE + x;
    const cameFrom = new Map([[key(from), null]]);
    const queue = [from];
    for (const cell of queue) {
      if (key(cell) === key(to)) break;
      for (const next of this.neighbours(cell)) {
        if (!cameFrom.has(key(next))) queue.push(next) && cameFrom.set(key(next), cell);
      }
    }
    const cells = [];
    for (let cell = to; cell; cell = cameFrom.get(key(cell))) cells.unshift(cell);
    return cells;
  }

  /** How far something of this radius can go from a place; it slides along walls. Returns [x, z]. */
  moved([x, z], [dx, dz], radius) {
    const isFree = (px, pz) =>
      [[-1, -1], [1, -1], [-1, 1], [1, 1]].every(([sx, sz]) =>
        this.isOpen(Math.floor(px + sx * radius), Math.floor(pz + sz * radius)));
    const newX = isFree(x + dx, z) ? x + dx : x;
    return [newX, isFree(newX, z + dz) ? z + dz : z];
  }

  #set(x, z) {
    this.#open[z * SIZE + x] = 1;
  }

  /** Corridors between the odd cells, without loops: a depth-first walk. */
  #carve(random) {
    const stack = [[1, 1]];
    this.#set(1, 1);
    while (stack.length) {
      const [x, z] = stack.at(-1);
      const ways = STEPS.filter(([dx, dz]) => {
        const [nx, nz] = [x + 2 * dx, z + 2 * dz];
        return nx > 0 && nz > 0 && nx < SIZE - 1 && nz < SIZE - 1 && !this.isOpen(nx, nz);
      });
      if (!ways.length) {
        stack.pop();
        continue;
      }
      const [dx, dz] = ways[Math.floor(random() * ways.length)];
      this.#set(x + dx, z + dz);
      this.#set(x + 2 * dx, z + 2 * dz);
      stack.push([x + 2 * dx, z + 2 * dz]);
    }
  }

  #hollow({ x, z, width, depth }) {
    for (let dz = 0; dz < depth; dz++) for (let dx = 0; dx < width; dx++) this.#set(x + dx, z + dz);
  }

  #pierce(random) {
    const inside = () => 1 + Math.floor(random() * (SIZE - 2));
    const [x, z] = [inside(), inside()];
    const isWall = x % 2 !== z % 2;
    if (isWall) this.#set(x, z);
  }
}
