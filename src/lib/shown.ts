// What of a text that somebody typed may stand in a message. Used where something else than the text was expected: an address with a
// password may have slipped into any place.

const shownMax = 200;

/** The text, unless it may hold an address with a password, or is too long to be read. */
export function shown(text: string): string {
  if (/@|:\/\//u.test(text)) return 'a text that may hold a password';
  return text.length > shownMax ? `${text.slice(0, shownMax)}…` : text;
}
