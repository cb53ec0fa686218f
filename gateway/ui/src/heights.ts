/** Heights of very many rows, where each is and what is where: a binary indexed tree. Pure. */

export class Heights {
  private sums = new Float64Array(1025);
  private each = new Float64Array(1025);
  length = 0;

  /** Forget all, and take so many rows. */
  reset(length: number, of: (row: number) => number): void {
    this.length = 0;
    this.grow(length, of);
  }

  /** Rows that came at the end. */
  grow(length: number, of: (row: number) => number): void {
    if (length >= this.sums.length) {
      const larger = Math.max(length + 1, this.sums.length * 2);
      this.sums = widened(this.sums, larger);
      this.each = widened(this.each, larger);
    }
    for (let at = this.length + 1; at <= length; at++) {
      let sum = (this.each[at] = of(at - 1));
      for (let below = 1; below < (at & -at); below <<= 1) sum += this.sums[at - below]!;
      this.sums[at] = sum;
    }
    this.length = length;
  }

  get(row: number): number {
    return this.each[row + 1]!;
  }

  set(row: number, height: number): void {
    const more = height - this.each[row + 1]!;
    this.each[row + 1] = height;
    for (let at = row + 1; at <= this.length; at += at & -at) this.sums[at] = this.sums[at]! + more;
  }

  /** Where a row begins; of the row behind the last: where all end. */
  top(row: number): number {
    let sum = 0;
    for (let at = Math.min(row, this.length); at > 0; at -= at & -at) sum += this.sums[at]!;
    return sum;
  }

  get whole(): number {
    return this.top(this.length);
  }

  /** The row in which a place lies; the last one for places behind the end. */
  at(place: number): number {
    let row = 0;
    let left = place;
    for (let step = 1 << Math.floor(Math.log2(Math.max(1, this.length))); step > 0; step >>= 1) {
      const next = row + step;
      if (next <= this.length && this.sums[next]! <= left) {
        row = next;
        left -= this.sums[next]!;
      }
    }
    return Math.max(0, Math.min(row, this.length - 1));
  }
}

function widened(old: Float64Array<ArrayBuffer>, length: number): Float64Array<ArrayBuffer> {
  const wide = new Float64Array(length);
  wide.set(old);
  return wide;
}
