// Why a file could not be read, in the words of someone who typed its name. Used wherever files are named in flags or topology.

const reasons: Readonly<Record<string, string>> = {
  ENOENT: 'no such file',
  ENOTDIR: 'no such file',
  EISDIR: 'a directory',
  EACCES: 'no permission',
  EPERM: 'no permission',
  ENXIO: 'no regular file',
};

/** `no such file`, `a directory`, `no permission`, else the system's code, or the message of an error without one. */
export function fileReason(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return code === undefined ? message : (reasons[code] ?? code);
}
