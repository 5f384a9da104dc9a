// Keys, tokens and kubeconfig files of a control plane for tests. The API server signs its serving certificate itself;
// its clients trust exactly that certificate and show a token.

import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Files and tokens that the API server is started with. */
export interface Credentials {
  readonly adminToken: string;
  readonly managerToken: string;
  readonly tokenFile: string;
  /** Signs service account tokens. */
  readonly signingKeyFile: string;
  readonly verificationKeyFile: string;
}

/** Writes fresh credentials into `folder`. */
export function createCredentials(folder: string): Credentials {
  const adminToken = randomBytes(16).toString('hex');
  const managerToken = randomBytes(16).toString('hex');
  const tokenFile = join(folder, 'tokens.csv');
  const rows = [
    `${adminToken},admin,admin,"system:masters"`,
    `${managerToken},system:kube-controller-manager,controller-manager`,
  ];
  writeFileSync(tokenFile, `${rows.join('\n')}\n`, { mode: 0o600 });
  const { privateKey, publicKey } = generateKeyPairSync('ec', {
    namedCurve: 'prime256v1',
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  });
  const signingKeyFile = join(folder, 'service-accounts.key');
  const verificationKeyFile = join(folder, 'service-accounts.pub');
  writeFileSync(signingKeyFile, privateKey, { mode: 0o600 });
  writeFileSync(verificationKeyFile, publicKey);
  return { adminToken, managerToken, tokenFile, signingKeyFile, verificationKeyFile };
}

/** Writes a kubeconfig for the bearer of `token`. */
export function writeKubeconfig(file: string, server: { url: string; caFile: string; token: string }): void {
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'switchyard',
    contexts: [{ name: 'switchyard', context: { cluster: 'switchyard', user: 'switchyard' } }],
    clusters: [
      { name: 'switchyard', cluster: { server: server.url, 'certificate-authority': server.caFile } },
    ],
    users: [{ name: 'switchyard', user: { token: server.token } }],
  };
  writeFileSync(file, `${JSON.stringify(config, null, 2)}\n`, { mode: 0o600 });
}
