import type { CrossingKind } from "@muster/sdk";

// What happened at a place of the group, or between two of its members, as a sentence.

export interface Crossed {
  readonly kind: CrossingKind;
  readonly name?: string | undefined;
  readonly user: string;
  readonly other?: string | undefined;
  /** Through, between two positions. */
  readonly passed?: boolean;
}

/** undefined: not worth a word, since the one before it said so. `nameOf` gives "You" for the reader. */
export function crossingText(c: Crossed, nameOf: (user: string) => string): string | undefined {
  const who = nameOf(c.user);
  const place = c.name || "a place";
  switch (c.kind) {
    case "enter":
      return c.passed ? `${who} passed ${place}` : `${who} arrived at ${place}`;
    case "exit":
      return c.passed ? undefined : `${who} left ${place}`;
    case "dwell":
      return `${who} ${who === "You" ? "are" : "is"} staying at ${place}`;
    case "meet":
      return `${who} and ${inside(nameOf(c.other ?? ""))} met`;
    case "part":
      return `${who} and ${inside(nameOf(c.other ?? ""))} parted`;
  }
}

const inside = (name: string) => (name === "You" ? "you" : name);
