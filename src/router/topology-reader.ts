// Walks the tree of a YAML document and notes what is wrong, each with its line. Used by topology.ts; the only file that
// knows the yaml package.

import {
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  parseAllDocuments,
  parseDocument,
  type Node,
  type YAMLError,
} from 'yaml';
import { shown } from '../lib/shown.ts';
import { nearest } from './nearest.ts';

export interface TopologyProblem {
  readonly path: string;
  /** 0 = the file as a whole. */
  readonly line: number;
  /** "Expected …, got …". */
  readonly message: string;
  /** Nothing is wrong but that a file which is named cannot be read now. */
  readonly isOfFile?: true;
}

/** A value of the file and its line. */
export interface Located<T> {
  readonly value: T;
  readonly line: number;
}

/** A mapping: its known fields by name. */
export interface Fields {
  readonly line: number;
  readonly byName: ReadonlyMap<string, Node | null>;
  /** Line of each field's name. */
  readonly lines: ReadonlyMap<string, number>;
  /** Fields that an unknown one was taken for. */
  readonly misspelt: ReadonlySet<string>;
}

/** The names of a mapping's fields. */
export interface Known {
  readonly named: readonly string[];
  /** Told apart only to say why they are refused; no message proposes them. */
  readonly refused?: readonly string[];
}

const charactersMax = 1024 * 1024;

const indentationErrors: readonly string[] = [
  'BAD_INDENT',
  'BLOCK_AS_IMPLICIT_KEY',
  'MISSING_CHAR',
  'MULTILINE_IMPLICIT_KEY',
  'TAB_AS_INDENT',
  'UNEXPECTED_TOKEN',
];

/** Reads nodes of one file and collects the problems found. */
export class TopologyReader {
  readonly problems: TopologyProblem[] = [];
  /** What is allowed but hardly meant. */
  readonly warnings: TopologyProblem[] = [];
  readonly #path: string;
  readonly #lines = new LineCounter();

  constructor(path: string) {
    this.#path = path;
  }

  /** `path`: what was read, where it is not the file. */
  note(line: number, message: string, path = this.#path): void {
    this.problems.push({ path, line, message });
  }

  /** Of a file that is named and cannot be read. */
  noteFile(line: number, message: string, path = this.#path): void {
    this.problems.push({ path, line, message, isOfFile: true });
  }

  warn(line: number, message: string, path = this.#path): void {
    this.warnings.push({ path, line, message });
  }

  /** The document's root; undefined when it is empty or no YAML. */
  parse(text: string): Node | undefined {
    if (text.length > charactersMax) {
      this.note(1, `Expected at most ${charactersMax} characters, got ${text.length}`);
      return undefined;
    }
    const document = parseDocument(text, {
      lineCounter: this.#lines,
      prettyErrors: false,
      uniqueKeys: false,
    });
    for (const error of document.errors)
      this.note(this.#lines.linePos(error.pos[0]).line, yamlProblem(error, text));
    return document.errors.length > 0 ? undefined : (document.contents ?? undefined);
  }

  lineOf(node: Node | null | undefined): number {
    const offset = node?.range?.[0];
    return offset === undefined ? 0 : this.#lines.linePos(offset).line;
  }

  /** A mapping with no fields but `known`, which messages call `what`. */
  fields(node: Node | null, at: number, what: string, known: readonly string[] | Known): Fields | undefined {
    const { named, refused = [] } = 'named' in known ? known : { named: known };
    if (!isMap(node)) {
      this.note(
        this.lineOf(node) || at,
        `Expected ${what} with the fields ${named.join(', ')}, got ${kindOf(node)}${indentationHint(node)}`,
      );
      return undefined;
    }
    const byName = new Map<string, Node | null>();
    const lines = new Map<string, number>();
    const misspelt = new Set<string>();
    for (const { key, value } of node.items) {
      const name = isScalar(key) ? String(key.value) : 'a field that is no text';
      const line = this.lineOf(key as Node);
      if (!named.includes(name) && !refused.includes(name)) {
        const meant = nearest(name, named);
        if (meant !== undefined) misspelt.add(meant);
        const hint = meant === undefined ? '' : `: did you mean ${meant}?`;
        this.note(
          line,
          `Expected one of the fields ${named.join(', ')} in ${what}, got ${shown(name)}${hint}`,
        );
      } else if (byName.has(name)) this.note(line, `Expected ${name} once in ${what}, got it again`);
      else {
        byName.set(name, value as Node | null);
        lines.set(name, line);
      }
    }
    return { line: this.lineOf(node), byName, lines, misspelt };
  }

  /** A list's elements. */
  elements(node: Node | null, at: number, what: string): readonly (Node | null)[] {
    if (isSeq(node)) return node.items as (Node | null)[];
    this.note(this.lineOf(node) || at, `Expected ${what} to be a list, got ${kindOf(node)}`);
    return [];
  }

  /** A text field; undefined when it is absent or wrong. */
  text(fields: Fields, name: string): Located<string> | undefined {
    const node = fields.byName.get(name);
    const line = fields.lines.get(name);
    if (node === undefined || line === undefined) return undefined;
    if (isScalar(node) && typeof node.value === 'string' && node.value !== '')
      return { value: node.value, line: this.lineOf(node) };
    this.note(line, `Expected ${name} to be a text, got ${kindOf(node)}`);
    return undefined;
  }

  /** A field of any scalar type. */
  scalar(fields: Fields, name: string): Located<unknown> | undefined {
    const node = fields.byName.get(name);
    const line = fields.lines.get(name);
    if (node === undefined || line === undefined) return undefined;
    if (isScalar(node)) return { value: node.value, line: this.lineOf(node) };
    this.note(line, `Expected ${name} to be a single value, got ${kindOf(node)}`);
    return undefined;
  }
}

/** A field whose fields stand too far left has nothing in it. */
function indentationHint(node: Node | null | undefined): string {
  return kindOf(node) === 'nothing' ? ': check the indentation below it' : '';
}

function yamlProblem({ code, message }: YAMLError, text: string): string {
  if (code === 'MULTIPLE_DOCS') return `Expected one YAML document, got ${parseAllDocuments(text).length}`;
  const hint =
    indentationErrors.includes(code) && !message.includes('closing') ? ': check the indentation' : '';
  // Some messages end with what stands in the file.
  return `Expected YAML, got: ${message.split(':')[0]}${hint}`;
}

function kindOf(node: Node | null | undefined): string {
  if (isMap(node)) return 'a mapping';
  if (isSeq(node)) return 'a list';
  if (isAlias(node)) return 'an alias';
  if (!isScalar(node) || node.value === null) return 'nothing';
  if (node.value === '') return 'an empty text';
  return typeof node.value === 'string'
    ? 'a text'
    : `the ${typeof node.value} ${shown(JSON.stringify(node.value))}`;
}
