// The parameters of database URLs in topology.yml and their values: those of the dialects' parsers, told before any server is
// reached. Used by endpoint.ts. A test compares them with the parsers.

/** Values by parameter; undefined: any. */
export const endpointParameters: Readonly<
  Record<'postgres' | 'mysql', Readonly<Record<string, readonly string[] | undefined>>>
> = {
  postgres: {
    host: undefined,
    sslmode: ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'],
    sslrootcert: undefined,
    sslcert: undefined,
    sslkey: undefined,
    application_name: undefined,
    synchronous_commit: ['off', 'local', 'remote_write', 'on', 'remote_apply'],
    prepared: ['on', 'off'],
    target_session_attrs: ['read-write', 'primary', 'any'],
  },
  mysql: { tls: ['false', 'preferred', 'skip-verify', 'true'], socketPath: undefined },
};

/** Parameters of Go's MySQL driver that mean nothing here: keys and values are bytes. */
const droppedParameters = ['parseTime', 'charset', 'collation', 'loc'];

/** The parameters to keep, or what is wrong as `expected` and `got` of a message without credentials. */
export function checkParameters(
  engine: 'postgres' | 'mysql',
  given: URLSearchParams,
): URLSearchParams | { readonly expected: string; readonly got: string } {
  const known = endpointParameters[engine];
  const kept = new URLSearchParams();
  for (const [name, value] of given) {
    if (Object.hasOwn(known, name)) {
      const values = known[name];
      if (values !== undefined && !values.includes(value)) {
        const got = /^[a-z_-]{1,20}$/iu.test(value) ? value : 'another value';
        return { expected: `${name} to be one of ${values.join(', ')}`, got: `${got} in ` };
      }
      kept.set(name, value);
    } else if (engine !== 'mysql' || !droppedParameters.includes(name)) {
      // Where a password holds an unescaped `?`, its rest ends up as a name.
      const got = /^[a-zA-Z_]{1,40}$/u.test(name) ? `${name} in ` : '';
      return { expected: `only the parameters ${Object.keys(known).join(', ')}`, got };
    }
  }
  return kept;
}
