// Who walks through the maze: by keys or touch, and by itself when nobody steers.

import { randomOf } from "./maze.js";

const RADIUS = 0.2, EYE_HEIGHT = 0.62;
const WALK_SPEED = 1.15, TURN_SPEED = 2.0;
const AGILITY = 7;
const IDLE_SECS = 5;
const LOOK_AHEAD = 0.75, ARRIVED = 0.3, PILOT_TURN = 2.2;
const BOB = 0.014, STRIDE = 7;
const PITCH = -0.04;
const DEGREES = 180 / Math.PI;

export class Player {
  yaw = 0;
  speed = 0;
  turning = 0;
  #maze;
  #random;
  #place;
  #way = [];
  #walked = 0;
  #idleSecs = IDLE_SECS;

  constructor(maze, seed) {
    this.#maze = maze;
    this.#random = randomOf(seed);
    const { x, z } = maze.rooms[Math.floor(this.#random() * maze.rooms.length)];
    this.#place = [x + 0.5, z + 0.5];
  }

  get isPilot() {
    return this.#idleSecs >= IDLE_SECS;
  }

  get camera() {
    const [x, z] = this.#place;
    const bob = BOB * Math.sin(STRIDE * this.#walked);
    return { eye: [x, EYE_HEIGHT + bob, z], yaw: this.yaw, pitch: PITCH };
  }

  /**
   * What the server is told of the player: place, direction and motion, all about -1 to 1; then the pose of the
   * eye, as an atlas wants it: east, north and up in cells of the maze; degrees from east, anticlockwise, and above
   * the horizon.
   */
  get stateVector() {
    const { eye: [east, up, south], yaw, pitch } = this.camera;
    const [x, z] = this.#place.map(at => (2 * at) / this.#maze.size - 1);
    return Float32Array.of(
      x, z, Math.sin(yaw), Math.cos(yaw), this.speed / WALK_SPEED, this.turning / TURN_SPEED,
      east, -south, up, DEGREES * Math.atan2(Math.cos(yaw), Math.sin(yaw)), DEGREES * pitch,
    );
  }

  /** `wish` is {forward, turn} in -1..1 from whoever steers. */
  step(secs, wish) {
    const isSteered = wish.forward !== 0 || wish.turn !== 0;
    this.#idleSecs = isSteered ? 0 : this.#idleSecs + secs;
    if (isSteered) this.#way = [];
    const { forward, turn } = this.isPilot ? this.#pilot() : wish;
    const share = 1 - Math.exp(-AGILITY * secs);
    this.speed += share * (forward * WALK_SPEED - this.speed);
    this.turning += share * (turn * TURN_SPEED - this.turning);
    this.yaw += this.turning * secs;
    const far = this.speed * secs;
    this.#walked += far;
    this.#place = this.#maze.moved(this.#place, [far * Math.sin(this.yaw), -far * Math.cos(this.yaw)], RADIUS);
  }

  /** Towards the next cell of the way to somewhere. */
  #pilot() {
    const centre = ([x, z]) => [x + 0.5, z + 0.5];
    const away = cell => Math.hypot(...centre(cell).map((at, axis) => at - this.#place[axis]));
    while (this.#way.length && away(this.#way[0]) < (this.#way.length > 1 ? LOOK_AHEAD : ARRIVED)) this.#way.shift();
    if (!this.#way.length) this.#way = this.#wayToSomewhere();
    if (!this.#way.length) return { forward: 0, turn: 0 };
    const [x, z] = centre(this.#way[0]);
    const wanted = Math.atan2(x - this.#place[0], this.#place[1] - z);
    const off = Math.atan2(Math.sin(wanted - this.yaw), Math.cos(wanted - this.yaw));
    return { forward: Math.max(0.05, 1 - 1.4 * Math.abs(off)), turn: Math.max(-1, Math.min(1, PILOT_TURN * off)) };
  }

  #wayToSomewhere() {
    const here = this.#place.map(Math.floor);
    const { cells } = this.#maze;
    return this.#maze.way(here, cells[Math.floor(this.#random() * cells.length)]).slice(1);
  }
}
