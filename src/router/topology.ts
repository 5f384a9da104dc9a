// topology.yml: which store is the default and which types are wished in which other store. Used by the commands; the
// format is told in topology/README.md. Every problem of a file is found in one go, each with its line.

import { readFileSync } from 'node:fs';
import { fileReason } from '../lib/file-reason.ts';
import { shown } from '../lib/shown.ts';
import type { Backend, BackendTls, ConnectionPool } from '../store/store.ts';
import { EndpointError, parseEndpoint, type Endpoint } from './endpoint.ts';
import { bareVariables, readTemplate } from './environment.ts';
import { plainTextHosts } from './plain-text.ts';
import { readMatch, ruleName } from './policy.ts';
import type { Rule, RuleMatch } from './rules.ts';
import { checkUrlFiles, readPasswordFile, readPool, readTls, type FileCheck } from './backend-options.ts';
import { TopologyReader, type Fields, type Located, type TopologyProblem } from './topology-reader.ts';

/** Name of the default store. */
export const defaultStoreName = 'default';
/** The default store when neither flag nor file names one. */
const fallbackEndpoint = 'sqlite://./data/switchyard.db';
const backendsMax = 1000;
/** What the default endpoint is told under where it comes from the flag. */
const flagName = '--default-endpoint';

export interface Topology {
  /** Undefined: there is no file. */
  readonly path: string | undefined;
  readonly default: Backend;
  /** The other stores, each once; a backend that leads to the same database as an earlier one has none of its own. */
  readonly backends: readonly Backend[];
  /** In the order of the file; the first match wins. */
  readonly rules: readonly Rule[];
  /** Name of the opened store by the name of each backend, `default` included. */
  readonly storeNames: ReadonlyMap<string, string>;
  /** What names the default store; `nothing`: it is the embedded one because neither flag nor file does. */
  readonly defaultFrom: 'flag' | 'file' | 'nothing';
  /** What is allowed but hardly meant, as "PATH:LINE: …". */
  readonly warnings: readonly string[];
}

/** The file cannot be used; the message has one line for each problem. Exit code 2, and 1 for `isOfFiles`. */
export class TopologyError extends Error {
  override readonly name = 'TopologyError';
  readonly problems: readonly TopologyProblem[];
  /** What is written is right; files that it names cannot be read now. */
  readonly isOfFiles: boolean;
  constructor(problems: readonly TopologyProblem[]) {
    const sorted = problems.toSorted((a, b) => a.line - b.line);
    super(sorted.map(showProblem).join('\n'));
    this.problems = sorted;
    this.isOfFiles = sorted.length > 0 && sorted.every(({ isOfFile }) => isOfFile === true);
  }
}

function showProblem({ path, line, message }: TopologyProblem): string {
  return `${path}${line > 0 ? `:${line}` : ''}: ${message}`;
}

export interface TopologyOptions {
  readonly env: NodeJS.ProcessEnv;
  /** From the flag; wins over the file's `default`. */
  readonly defaultEndpoint?: string;
  /** Whether TLS files must be there; `checked` when a file is loaded, `unchecked` when a text is parsed. */
  readonly files?: FileCheck;
}

/** Reads and checks the file at `path`; without a path there are no rules. @throws TopologyError */
export function loadTopology({ path, ...given }: TopologyOptions & { readonly path?: string }): Topology {
  const options = { files: 'checked', ...given } as const;
  if (path === undefined) return parseTopology('', options);
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const message = `Expected a file that can be read, got ${fileReason(error)}`;
    // What is no path may be an address that slipped into its place.
    throw new TopologyError([{ path: path.includes('://') ? shown(path) : path, line: 0, message }]);
  }
  return parseTopology(text, { ...options, path });
}

/** Checks the text of a topology file. @throws TopologyError */
export function parseTopology(
  text: string,
  { path, env, defaultEndpoint, files = 'unchecked' }: TopologyOptions & { readonly path?: string },
): Topology {
  const reader = new TopologyReader(path ?? flagName);
  const builder = new Builder(reader, env, files);
  const root = reader.parse(text);
  const fields =
    root === undefined ? undefined : reader.fields(root, 1, 'the topology', ['default', 'backends']);
  const defaultBackend = builder.defaultBackend(fields, defaultEndpoint);
  if (fields?.byName.has('backends') === true) {
    const line = fields.lines.get('backends') ?? 1;
    const elements = reader.elements(fields.byName.get('backends') ?? null, line, 'backends');
    if (elements.length > backendsMax)
      reader.note(line, `Expected at most ${backendsMax} backends, got ${elements.length}`);
    for (const element of elements) {
      const backend = reader.fields(element, line, 'a backend', backendFields);
      if (backend !== undefined) builder.add(backend);
    }
  }
  if (reader.problems.length > 0 || defaultBackend === undefined) throw new TopologyError(reader.problems);
  const fromFile = fields?.byName.has('default') === true ? 'file' : 'nothing';
  return {
    path,
    default: defaultBackend,
    ...builder.result(),
    defaultFrom: defaultEndpoint === undefined ? fromFile : 'flag',
    warnings: reader.warnings.map(showProblem),
  };
}

const policies = ['customresource', 'prefix'];
const refusedPolicies = ['namespace', 'regexp'];
const backendFields = {
  named: ['name', 'endpoint', 'passwordFile', ...policies, 'backendTLS', 'connectionPool'],
  refused: refusedPolicies,
};
const storeNameForm = /^[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?$/u;

interface Opened {
  readonly backend: Backend;
  readonly line: number;
}

/** Builds stores and rules one backend after the other. */
class Builder {
  readonly #reader: TopologyReader;
  readonly #env: NodeJS.ProcessEnv;
  readonly #rules: Rule[] = [];
  readonly #names = new Map<string, number>();
  readonly #storeNames = new Map([[defaultStoreName, defaultStoreName]]);
  readonly #byIdentity = new Map<string, Opened>();

  readonly #files: FileCheck;

  constructor(reader: TopologyReader, env: NodeJS.ProcessEnv, files: FileCheck) {
    this.#reader = reader;
    this.#env = env;
    this.#files = files;
  }

  result() {
    const backends = [...this.#byIdentity.values()].map(({ backend }) => backend);
    return {
      backends: backends.filter(({ name }) => name !== defaultStoreName),
      rules: this.#rules,
      storeNames: this.#storeNames,
    };
  }

  /** `default` is an endpoint, or a mapping with one; the flag replaces the endpoint alone. */
  defaultBackend(fields: Fields | undefined, flag: string | undefined): Backend | undefined {
    const reader = this.#reader;
    const node = fields?.byName.get('default');
    const line = fields?.lines.get('default') ?? 0;
    let written: Located<string> | undefined;
    let options: Fields | undefined;
    if (fields !== undefined && node !== undefined) {
      const isMapping = node !== null && 'items' in node;
      options = isMapping
        ? reader.fields(node, line, 'default', ['endpoint', 'passwordFile', 'backendTLS', 'connectionPool'])
        : undefined;
      written = isMapping ? options && reader.text(options, 'endpoint') : reader.text(fields, 'default');
      if (options !== undefined && flag === undefined && !has(options, 'endpoint'))
        reader.note(line, 'Expected endpoint in default, got none');
      // The problem is noted.
      if (written === undefined && flag === undefined) return undefined;
    }
    const endpoint =
      flag === undefined
        ? this.#endpoint(written ?? { value: fallbackEndpoint, line: 0 })
        : this.#flagEndpoint(flag);
    if (endpoint === undefined) return undefined;
    const place = flag === undefined ? { line: written?.line ?? line } : { line: 0, path: flagName };
    const backend = this.#backend(defaultStoreName, endpoint, { fields: options, ...place });
    this.#byIdentity.set(endpoint.identity, { backend, line });
    return backend;
  }

  /** One element of `backends`. */
  add(fields: Fields): void {
    const reader = this.#reader;
    const located = reader.text(fields, 'endpoint');
    if (!has(fields, 'endpoint')) reader.note(fields.line, 'Expected endpoint in a backend, got none');
    const endpoint = located && this.#endpoint(located);
    const given = [...policies, ...refusedPolicies].filter((policy) => fields.byName.has(policy));
    const isMisspelt = given.length === 0 && policies.some((policy) => fields.misspelt.has(policy));
    if (given.length !== 1 && !isMisspelt) {
      const got = given.length === 0 ? 'none' : given.join(' and ');
      reader.note(fields.line, `Expected one of customresource and prefix in a backend, got ${got}`);
    }
    const policy = given[0];
    if (policy === undefined || given.length > 1) return;
    const read = readMatch(reader, fields, policy);
    const shadowing = read && this.#shadowing(read.match);
    if (read !== undefined && shadowing !== undefined) this.#noteShadowed(fields.line, read.match, shadowing);
    // A name that is made of the rule clashes with that of the same rule, which nobody typed.
    const isTwin = shadowing !== undefined && !fields.byName.has('name') && read?.name === undefined;
    const name = isTwin ? undefined : this.#name(fields, read?.name, read && ruleName(read.match));
    if (read === undefined || name === undefined || endpoint === undefined) return;
    const backend = this.#backend(name, endpoint, { fields, line: located?.line ?? fields.line });
    const store = this.#share(backend, endpoint, fields);
    this.#storeNames.set(name, store);
    const { match, kindWritten } = read;
    const written = kindWritten === undefined ? {} : { kindWritten };
    this.#rules.push({ name, store, line: fields.line, match, ...written });
  }

  /** The name at the backend or in its policy, else one made of the rule. */
  #name(fields: Fields, inPolicy: Located<string> | undefined, derived: string | undefined) {
    const reader = this.#reader;
    const outside = reader.text(fields, 'name');
    if (outside !== undefined && inPolicy !== undefined && outside.value !== inPolicy.value) {
      reader.note(
        inPolicy.line,
        `Expected one name for the backend, got ${shown(outside.value)} and ${shown(inPolicy.value)}`,
      );
    }
    const given = outside ?? inPolicy;
    const name = given?.value ?? derived;
    const line = given?.line ?? fields.line;
    if (name === undefined) return undefined;
    if (!storeNameForm.test(name)) {
      reader.note(
        line,
        `Expected a name of letters, digits, dots, dashes and underscores, got ${shown(name)}`,
      );
      return undefined;
    }
    const before = name === defaultStoreName ? 0 : this.#names.get(name);
    if (before !== undefined) {
      const where = before === 0 ? 'the default store' : `the backend in line ${before}`;
      const hint = given === undefined ? ' (made of the rule: give the backend another by name)' : '';
      reader.note(
        line,
        `Expected a name of its own for each backend, got ${name}, the name of ${where}${hint}`,
      );
      return undefined;
    }
    this.#names.set(name, fields.line);
    return name;
  }

  #endpoint({ value, line }: Located<string>): Endpoint | undefined {
    for (const name of bareVariables(value, this.#env))
      this.#reader.warn(line, `a literal $${name}; did you mean \${${name}}?`);
    return this.#parse(value, this.#env, (message) => this.#reader.note(line, message));
  }

  #flagEndpoint(flag: string): Endpoint | undefined {
    return this.#parse(flag, {}, (message) => this.#reader.note(0, message, flagName));
  }

  #parse(text: string, env: NodeJS.ProcessEnv, note: (message: string) => void): Endpoint | undefined {
    const { template, problems } = readTemplate(text, env);
    for (const problem of problems) note(problem);
    if (problems.length > 0) return undefined;
    try {
      return parseEndpoint(text, template);
    } catch (error) {
      if (!(error instanceof EndpointError)) throw error;
      note(error.message);
      return undefined;
    }
  }

  #backend(
    name: string,
    { engine, url, displayUrl }: Endpoint,
    {
      fields,
      line,
      path,
    }: {
      readonly fields: Fields | undefined;
      /** Of the endpoint. */
      readonly line: number;
      /** Undefined: the file's. */
      readonly path?: string;
    },
  ): Backend {
    const reader = this.#reader;
    const context = { env: this.#env, files: this.#files, engine, url };
    checkUrlFiles(url, context, (message) => reader.noteFile(line, message, path));
    const tls: BackendTls | undefined = fields && readTls(reader, fields, context);
    const passwordFile = fields && readPasswordFile(reader, fields, context);
    const pool: ConnectionPool = fields === undefined ? {} : readPool(reader, fields, engine);
    const plain = plainTextHosts({ engine, url, ...(tls && { tls }) });
    if (plain.length > 0)
      reader.warn(
        line,
        `${plain.join(', ')} without TLS: whoever is on the way reads and changes what store ${name} holds; use backendTLS`,
        path,
      );
    const access = { ...(tls && { tls }), ...(passwordFile === undefined ? {} : { passwordFile }) };
    return { name, engine, url, displayUrl, pool, ...access };
  }

  /** The name of the store for a backend: its own, or that of an earlier one that leads to the same database. */
  #share(backend: Backend, { identity }: Endpoint, { line }: Fields): string {
    const before = this.#byIdentity.get(identity);
    if (before === undefined) {
      this.#byIdentity.set(identity, { backend, line });
      return backend.name;
    }
    const { name, url, tls, passwordFile, pool } = before.backend;
    const where = before.line > 0 ? `${name} (line ${before.line})` : name;
    const same = `Expected the same %s as in ${where}, which leads to the same database, got another`;
    const isLogin = backend.url !== url || backend.passwordFile !== passwordFile;
    if (isLogin) this.#reader.note(line, same.replace('%s', 'user, password and parameters'));
    if (backend.tls !== undefined && JSON.stringify(backend.tls) !== JSON.stringify(tls))
      this.#reader.note(line, same.replace('%s', 'backendTLS'));
    if (Object.keys(backend.pool).length > 0 && JSON.stringify(backend.pool) !== JSON.stringify(pool))
      this.#reader.note(line, same.replace('%s', 'connectionPool'));
    return name;
  }

  /** The earlier rule that takes all types of `match`. */
  #shadowing(match: RuleMatch): Rule | undefined {
    return this.#rules.find(({ match: earlier }) =>
      earlier.type === 'prefix'
        ? match.type === 'prefix' && earlier.root === match.root
        : match.type === 'customresource' &&
          earlier.group === match.group &&
          (earlier.kind === undefined || earlier.kind === match.kind),
    );
  }

  #noteShadowed(line: number, match: RuleMatch, before: Rule): void {
    const isSame =
      match.type === 'prefix' || (before.match.type !== 'prefix' && before.match.kind === match.kind);
    this.#reader.note(
      line,
      isSame
        ? `Expected a rule for types of its own, got the same types as line ${before.line}`
        : `Expected a rule that can match, got one for types that ${before.name} (line ${before.line}) takes already`,
    );
  }
}

/** Whether the field is there, if misspelt. */
function has(fields: Fields, name: string): boolean {
  return fields.byName.has(name) || fields.misspelt.has(name);
}
