<?php
$person = fn (string $email, string $department, array $groups) =>
    ['email' => [$email], 'department' => [$department], 'groups' => $groups];
$crowd = array_map(fn (int $n) => "Group $n", range(0, 146));
$config = ['people' => ['exampleauth:UserPass',
    'alice:correct horse' => $person('alice@example.com', 'Research', ['Everyone', 'R&D <x>', 'Vertrieb, Köln', ...$crowd]),
    'bob:correct horse' => $person('bob@example.com', 'Sales', ['Everyone', 'R&D', 'R&amp;D &lt;x&gt;']),
]];
