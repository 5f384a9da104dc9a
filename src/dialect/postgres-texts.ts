// Statement texts in Postgres' form, and which of them are prepared on the server. Used by postgres.ts.

/** Texts kept rewritten, and server-side prepared statements per connection. */
const textsMax = 1_000;
const namesMax = 200;
/** A text is prepared on the server when it comes back this often. */
const usesBeforeName = 2;

export interface Prepared {
  readonly text: string;
  uses: number;
  name: string | undefined;
}

/** `?` placeholders become `$1`, `$2`, … outside of quotes. */
export function numberPlaceholders(text: string): string {
  let count = 0;
  return text.replace(/'(?:[^']|'')*'|"[^"]*"|\?/g, (match) => (match === '?' ? `$${++count}` : match));
}

/** Rewritten texts, and names for those that come often. Shared by the connections of a driver. */
export class Texts {
  readonly #known = new Map<string, Prepared>();
  #names = 0;

  find(text: string): Prepared {
    let prepared = this.#known.get(text);
    if (prepared === undefined) {
      if (this.#known.size >= textsMax) this.#forgetUnnamed();
      prepared = { text: numberPlaceholders(text), uses: 0, name: undefined };
      this.#known.set(text, prepared);
    }
    prepared.uses++;
    if (prepared.name === undefined && prepared.uses > usesBeforeName && this.#names < namesMax) {
      prepared.name = `switchyard_${++this.#names}`;
    }
    return prepared;
  }

  #forgetUnnamed(): void {
    for (const [text, prepared] of this.#known) if (prepared.name === undefined) this.#known.delete(text);
  }
}
