// A kind that no page knows, for scenario "odd": it proves that pages are made
// of a description alone, whatever stands in it.
import { part, setting } from './kinds.mjs';

export const testkind =
  {
    name: 'testkind', title: 'Kind <b>nobody</b> knows', summary: 'Proves that a page is made of a description alone.',
    parts: [part('front', 'Front', 'Takes requests.', { max: 3, ports: [{ number: 8443, use: 'HTTPS', public: true }] }), part('very-long-name-of-a-part', 'A part with a very long title, as translators make them', 'Works.', { default: 2, max: 0, volume: 'store' }), part('lone', 'Lone', 'There is one.', { fixed: true, max: 1 })],
    settings: [
      setting('colour', 'Colour', 'string', 'walnut', 'Of the shell.', { enum: ['walnut', 'hazel', '<i>almond</i>'] }), setting('weight', 'Weight', 'integer', 12, 'Of one.', { min: 1, max: 99, unit: 'grams' }),
      setting('cracked', 'Cracked', 'boolean', true, 'Opened before it is served.'), setting('room', 'Room', 'size', '512M', 'For all of them.', { restart: true }), setting('names', 'Names', 'list', ['one', 'two'], 'One per line.'), setting('poem', 'Poem', 'text', '', 'Several lines.'),
    ],
    actions: [
      { name: 'list_nuts', title: 'List nuts', summary: 'and what they weigh', params: [], reads: true },
      { name: 'add_nut', title: 'Add a nut', summary: 'to the bowl', params: [{ name: 'name', help: 'of the nut', required: true }, { name: 'weight', help: 'in grams', required: false, type: 'integer' }, { name: 'shelled', help: 'without its shell', required: false, type: 'boolean' }], reads: false },
      { name: 'remove_nut', title: 'Take a nut', summary: 'out of the bowl', params: [{ name: 'name', help: 'of the nut', required: true }], reads: false },
      { name: 'weigh', title: 'Weigh the bowl', summary: 'and say what is in it', params: [{ name: 'unit', help: 'of the answer', required: false, enum: ['g', 'oz'] }], reads: true },
      { name: 'empty', title: 'Empty the bowl', summary: 'for a new start', params: [{ name: 'room', help: 'that stays', required: false, type: 'size' }, { name: 'note', help: 'for those who come after', required: false, type: 'text' }, { name: 'confirm', help: 'yes', required: true, enum: ['yes'] }], reads: false },
      { name: 'fill', title: 'Fill the bowl', summary: 'from a file', params: [], reads: false, takes: 'a list of nuts' }, { name: 'pour', title: 'Pour the bowl', summary: 'into a file', params: [], reads: true, gives: 'nuts.txt' },
    ],
    code: { accepts: true, help: 'A recipe.' }, packages: ['nutcracker'], volumes: true, backups: true,
    offers: [{ name: 'address', help: 'of the front', secret: false }, { name: 'token', help: 'to be let in', secret: true }], secrets: [{ name: 'token', title: 'Token', help: 'to be let in', own: true, shown: false }],
  };

const bowls = new Map();
const bowl = (s) => bowls.get(s.id) ?? bowls.set(s.id, [{ name: 'Juglans regia', weight: 12 }, { name: '<img src=x onerror="document.title=1">', weight: 9 }]).get(s.id);

/** nuts answers its actions. */
export function nuts(x, s) {
  const args = x.json().args ?? {};
  switch (x.groups[2]) {
    case 'list_nuts': return { json: { text: bowl(s).map((n) => n.name).join('\n'), result: bowl(s) } };
    case 'add_nut':
      if (args.weight && !/^-?\d+$/.test(args.weight)) return x.problem(422, 'invalid', `${args.weight} is no integer`, { fields: ['weight'] });
      bowl(s).push({ name: args.name, weight: Number(args.weight ?? 1), shelled: args.shelled === 'true' });
      return { json: { text: `${args.name} lies in the bowl` } };
    case 'remove_nut': bowls.set(s.id, bowl(s).filter((n) => n.name !== args.name)); return { json: { text: 'taken' } };
    case 'empty':
      if (args.confirm !== 'yes') return x.problem(422, 'invalid', 'it is required: yes', { fields: ['confirm'] });
      bowls.set(s.id, []);
      return { json: { text: `the bowl is empty; ${args.room ?? 'no room'} stays` } };
    default: return { json: { text: `${bowl(s).reduce((n, b) => n + b.weight, 0)} ${args.unit ?? 'g'}` } };
  }
}

/** seedOdd makes an application of such services. */
export function seedOdd(world) {
  world.kinds.push(testkind);
  const a = world.addApplication('odd', 'RUNNING', 90);
  world.addService(a, 'testkind', 'bowl', 'RUNNING', 60);
  world.addService(a, 'testkind', 'still bowl', 'STOPPED', 60);
  const shared = world.addApplication('library', 'RUNNING', 300);
  shared.owner = 'maria';
  world.members.set(shared.id, [{ user: 'jonas', name: 'Jonas Weber', access: 'viewer', since: new Date().toISOString(), by: 'maria' }]);
  world.addService(shared, 'php', 'catalogue', 'RUNNING', 200, { backend: 2 });
  world.addService(shared, 'mysql', 'books', 'RUNNING', 200, { mysql: 2 });
}
