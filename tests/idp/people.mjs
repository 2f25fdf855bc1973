// The users of an example organisation, one per case of interest. Ids look like Okta's (`00u…` users, `00g…` groups).

const crowd = (count, prefix) => Array.from({ length: count }, (_, i) => `${prefix}-${String(i + 1).padStart(3, '0')}`);

/** The users of a new organisation: login → user. `email` and `emailVerified` are given only if they are unusual. */
export const newPeople = () => ({
  'zero@example.com': { id: '00u0zero00000000d7', name: 'Zed Zero', groups: [] },
  'alice@example.com': {
    id: '00u1alice0000000d7',
    name: 'Alice Ames',
    groups: ['Everyone', 'Engineering', 'SRE', 'On Call, EU', 'Ops/Prod'],
  },
  'bob@example.com': { id: '00u2bob000000000d7', name: 'Bob Burns', groups: ['Everyone', 'Finance'] },
  'hundred@example.com': { id: '00u3hundred00000d7', name: 'Hanna Hundred', groups: crowd(100, 'h') },
  'carol@example.com': {
    id: '00u4carol0000000d7',
    name: 'Carol Crowd',
    groups: [...crowd(149, 'crowd'), 'zz-last-allowed'],
  },
  'unicode@example.com': {
    id: '00u5unicode00000d7',
    name: 'Ünï Çødé',
    groups: ['Everyone', 'Größe', '日本語グループ', 'a"b\\c'],
  },
  'unverified@example.com': {
    id: '00u6unverified00d7',
    name: 'Una Verified',
    groups: ['Everyone', 'Engineering'],
    emailVerified: false,
  },
  'upper@example.com': {
    id: '00u7upper0000000d7',
    name: 'Ulla Upper',
    groups: ['Everyone', 'Engineering'],
    email: 'Ulla.Upper@EXAMPLE.com',
  },
});

export const password = 'correct horse';

export const byId = (people, id) => {
  const found = Object.entries(people).find(([, person]) => person.id === id);
  return found && { login: found[0], ...found[1] };
};

/** Returns the groups of a user as Okta lists them: by id. */
export const groupsOf = (person) =>
  person.groups.map((name, i) => ({ id: `00g${String(i).padStart(8, '0')}example`, name }));
