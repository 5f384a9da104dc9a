// The user as whom a gateway speaks to an etcd that has users: a token is asked for with a name and a password, and goes with each
// call of a client that has none of its own. Used by connection.ts and member.ts.

import { decodeAuthenticateResponse, encodeAuthenticateRequest } from '../../etcd/codec/auth.ts';
import { grpcCode } from '../../grpc/codes.ts';
import { StatusError } from '../../grpc/status.ts';
import { readPasswordFile } from '../../lib/password-file.ts';
import type { OpenStream } from './outgoing-call.ts';
import { rawCall } from './raw-call.ts';

export const authenticateMethod = '/etcdserverpb.Auth/Authenticate';

/** What etcd says of a token that counts no more, and of none where users have been switched on meanwhile (rpctypes/error.go). */
const overTexts = [
  'etcdserver: invalid auth token',
  'etcdserver: revision of auth store is old',
  'etcdserver: user name is empty',
];

export interface EtcdLogin {
  readonly name: string;
  /** As it is now. @throws Error that names the file that cannot be used. */
  readonly password: () => Promise<string>;
}

/** The login in the first of an endpoint's members; undefined: there is none. */
export function loginOf(options: {
  readonly url: string;
  readonly passwordFile?: string;
}): EtcdLogin | undefined {
  const { username, password } = new URL(options.url.split(',')[0]!.trim());
  if (username === '') return undefined;
  const { passwordFile: path } = options;
  const given = decodeURIComponent(password);
  return {
    name: decodeURIComponent(username),
    password: path === undefined ? () => Promise.resolve(given) : () => readPasswordFile(path),
  };
}

/**
 * A token; undefined: this etcd wants none. `open` opens the call over the connection that is logged in.
 * @throws StatusError as etcd answered; Error when the password cannot be had.
 */
export async function logIn(
  { name, password }: EtcdLogin,
  open: OpenStream,
  signal: AbortSignal,
): Promise<string | undefined> {
  const request = encodeAuthenticateRequest({ name, password: await password() });
  try {
    const answer = await rawCall(open, request, signal);
    if (answer === undefined) throw new StatusError(grpcCode.unavailable, 'etcd refused to log in');
    return decodeAuthenticateResponse(answer);
  } catch (error) {
    const isOff = error instanceof StatusError && error.message.includes('authentication is not enabled');
    if (isOff) return undefined;
    throw error;
  }
}

/** Whether a call failed for the token alone: then nothing was done, and another token may do. */
export function isTokenOver(error: unknown): boolean {
  return error instanceof StatusError && overTexts.some((text) => error.message.includes(text));
}
