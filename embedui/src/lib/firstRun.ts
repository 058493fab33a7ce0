// What the sign-in hands to the first page after it: the password that was
// printed, so that nobody types it twice. It is kept nowhere else.
export const firstRun = { password: '' };
