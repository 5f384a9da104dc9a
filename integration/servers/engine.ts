// The seam between "a private database server" and the way one engine is installed and started.

import type { ServerProcess } from './process.ts';
import type { SystemUser } from './system.ts';

/** Password of the administrator of every private server. */
export const adminPassword = 'switchyard-test';

/** How long a database may take from its start to its first answer. */
export const startMsMax = 90_000;

/** What is special about a private server. */
export interface PrivateServerOptions {
  /** Memory for data; absent: the server's default. */
  readonly cacheMiB?: number;
  readonly env?: NodeJS.ProcessEnv;
  /** Further arguments of the server. */
  readonly args?: readonly string[];
}

/** How one kind of database server is found, set up and asked. */
export interface Engine {
  readonly name: 'postgres' | 'mysql';
  /** Environment variable with the URL of an administrator of a server that runs already. */
  readonly variable: string;
  /** Debian packages that bring the server. */
  readonly packages: readonly string[];
  /** Folder of the server's programs, or undefined. */
  findPrograms(): string | undefined;
  /** The system user that the server runs as; undefined = as this process. */
  user(): SystemUser | undefined;
  /** Makes an empty data folder in `folder` and answers with the server, not yet started. */
  prepare(
    options: { programs: string; folder: string; port: number } & PrivateServerOptions,
  ): Promise<ServerProcess>;
  /** Arguments of `docker run` behind the common ones, for machines with nothing but a container engine. */
  container(port: number): readonly string[];
  /** URL of the administrator, with the database that tools connect to first. */
  url(port: number): string;
  /** Runs statements as the administrator behind `url`. */
  administer(url: string, statements: readonly string[]): Promise<void>;
  /** Statements that create and drop a database of this name. */
  create(database: string): string;
  drop(database: string): string;
}
