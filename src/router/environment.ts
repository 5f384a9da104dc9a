// `${NAME}` in the values of topology.yml. Used by topology.ts. Variables are kept apart from the text around them until
// the value has been taken to pieces, so that a password may hold any character.

/** A value of the file: text, and names of environment variables. */
export type Template = readonly TemplatePart[];
export type TemplatePart =
  | { readonly type: 'text'; readonly text: string }
  | { readonly type: 'variable'; readonly name: string; readonly value: string };

export interface TemplateReading {
  readonly template: Template;
  /** "Expected …, got …", one for each variable that is not there. */
  readonly problems: readonly string[];
}

const token = /\$\$\{|\$\{([^}]*)(\}?)/gu;
const variableName = /^[A-Za-z_][A-Za-z0-9_]*$/u;

/** Splits `text` at its variables and looks them up; `$${` stands for `${`. */
export function readTemplate(text: string, env: NodeJS.ProcessEnv): TemplateReading {
  const template: TemplatePart[] = [];
  const problems: string[] = [];
  let at = 0;
  for (const found of text.matchAll(token)) {
    if (found.index > at) template.push({ type: 'text', text: text.slice(at, found.index) });
    at = found.index + found[0].length;
    const [whole, name = '', brace] = found;
    if (whole === '$${') template.push({ type: 'text', text: '${' });
    else if (brace !== '}' || !variableName.test(name)) {
      problems.push('Expected a variable as ${NAME} (or $${ for a plain ${), got ${ without a name and a }');
    } else if (env[name] === undefined) {
      problems.push(`Expected the environment variable ${name} to be set, got nothing`);
    } else template.push({ type: 'variable', name, value: env[name] });
  }
  if (at < text.length) template.push({ type: 'text', text: text.slice(at) });
  return { template, problems };
}

/**
 * Names after a `$` without braces that are hardly meant as they stand: of a variable that is set, or a whole part of an
 * endpoint in capitals. A `$` within a password is left alone, and not shown.
 */
export function bareVariables(text: string, env: NodeJS.ProcessEnv): readonly string[] {
  const names: string[] = [];
  for (const { index, 0: whole, 1: name = '' } of text.matchAll(/(?<!\$)\$([A-Za-z_][A-Za-z0-9_]*)/gu)) {
    const before = text[index - 1] ?? '/';
    const after = text[index + whole.length] ?? '/';
    const isPart = /[:/@(,=]/u.test(before) && /[:/@),?&]/u.test(after) && /^[A-Z_][A-Z0-9_]+$/u.test(name);
    if (env[name] !== undefined || isPart) names.push(name);
  }
  return names;
}

/** The value with its variables put in; `encode` is applied to them alone. */
export function fill(template: Template, encode: (value: string) => string = (value) => value): string {
  return template.map((part) => (part.type === 'text' ? part.text : encode(part.value))).join('');
}
