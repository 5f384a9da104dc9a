// What of a text that somebody typed may stand in a message. Used where something else than the text was expected: an address with a
// password may have slipped into any place.

const shownMax = 200;
const hidden = 'a text that may hold a password';

/** The text, unless it may hold an address with a password, or is too long to be read. */
export function shown(text: string): string {
  return /@|:\/\//u.test(text) ? hidden : cut(text);
}

/** The same of what should have been an address without a login: one that has neither a login nor parameters is shown. */
export function shownAddress(text: string): string {
  return /[@?#]/u.test(text) ? hidden : cut(text);
}

function cut(text: string): string {
  return text.length > shownMax ? `${text.slice(0, shownMax)}…` : text;
}
