// What the reader may do, as the director would decide it. Screens hide or
// disable what is refused and give the reason; the director refuses all the same.
import type { Application } from './api';

const rank = { viewer: 0, developer: 1, owner: 2 };
type Access = keyof typeof rank;

/** may says whether the reader is at least this to an application. */
export const may = (a: Application | undefined, least: Access): boolean => rank[a?.access || 'owner'] >= rank[least];
