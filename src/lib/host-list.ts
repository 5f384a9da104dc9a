// Several hosts in the place of one in a database's URL: `scheme://user:password@a:1,b:2/name`, which no URL parser takes.

/** A URL whose hosts stand apart. */
export interface HostList {
  /** The URL with its first host alone. */
  readonly single: string;
  /** Each as it is written; one where the URL is not of this form. */
  readonly hosts: readonly [string, ...string[]];
}

/** Takes the hosts out of `text`. */
export function splitHosts(text: string): HostList {
  const found = /^([^/?#]*\/\/(?:[^/?#]*@)?)([^/?#@]*)(.*)$/su.exec(text);
  const [, head = '', list = '', tail = ''] = found ?? [];
  const [first = '', ...others] = list.split(',');
  return { single: found === null ? text : head + first + tail, hosts: [first, ...others] };
}
