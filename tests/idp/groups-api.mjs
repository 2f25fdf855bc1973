// The part of Okta's management API that logins and refreshes use: `GET /api/v1/users/{id}` and `/groups` under it, with
// pages, rate limits and faults. Answers without a fault conform to Okta's published schema; others become a 500.

import { randomBytes } from 'node:crypto';
import { mistake } from './openapi.mjs';
import { byId, groupsOf } from './people.mjs';

const PAGE = 200;
const WINDOW = 60;
const OWNER = 'zero@example.com';
const tokens = { '00example-read-only-token': 'read', '00example-token-without-rights': 'none' };

export class GroupsApi {
  /** Faults of the next calls, first in first out: `reset`, `html`, `429`, `500`, `503`, `hang`, `foreign-next`. */
  faults = [];
  pageSize = PAGE;
  limit = 600;
  calls = [];
  #used = 0;
  #reset = 0;

  /** `disabled` holds the logins of deactivated users. */
  constructor(org, people, disabled) {
    this.org = org;
    this.people = people;
    this.disabled = disabled;
  }

  configure({ faults, pageSize, limit, resetWindow }) {
    this.faults = faults ?? this.faults;
    this.pageSize = pageSize ?? this.pageSize;
    this.limit = limit ?? this.limit;
    if (resetWindow) this.#used = this.#reset = 0;
  }

  handle(request, response, url) {
    response.method = request.method;
    response.path = url.pathname;
    const authorization = request.headers.authorization ?? '';
    this.calls.push({ method: request.method, url: request.url, scheme: authorization.split(' ')[0] });
    this.#count(response);
    response.setHeader('content-type', 'application/json');
    response.setHeader('x-okta-request-id', randomBytes(12).toString('base64url'));
    response.setHeader('cache-control', 'no-cache, no-store');

    const fault = this.faults.shift();
    if (fault === 'hang') return;
    if (fault === 'reset') return void request.socket.destroy();
    if (fault === 'html') {
      response.setHeader('content-type', 'text/html');
      return void response.end('<!DOCTYPE html><title>Blocked</title><h1>Access forbidden</h1>');
    }
    if (fault === '500' || fault === '503') return refuse(response, +fault, 'E0000009', 'Internal Server Error');
    if (fault === '429' || this.#used > this.limit) {
      response.setHeader('x-rate-limit-remaining', 0);
      return refuse(response, 429, 'E0000047', 'API call exceeded rate limit due to too many requests.');
    }

    const rights = tokens[authorization.match(/^SSWS (\S+)$/)?.[1]];
    if (!rights) return refuse(response, 401, 'E0000011', 'Invalid token provided');
    if (rights === 'none' && url.pathname !== '/api/v1/users/me') {
      return refuse(response, 403, 'E0000006', 'You do not have permission to perform the requested action');
    }

    const [, reference, groups] = url.pathname.match(/^\/api\/v1\/users\/([^/]+)(\/groups)?$/) ?? [];
    // Every user may read their own entry, also with a token without rights.
    const login = reference === 'me' ? OWNER : reference && decodeURIComponent(reference);
    const { people } = this;
    const person = login && (byId(people, login) ?? (people[login] && { login, ...people[login] }));
    if (request.method !== 'GET' || !person) {
      return refuse(response, 404, 'E0000007', `Not found: Resource not found: ${login} (User)`);
    }
    if (!groups) return send(response, 200, this.#user(person));
    this.#page(response, url, groupsOf(person), fault === 'foreign-next');
  }

  #count(response) {
    const now = Math.floor(Date.now() / 1000);
    if (now >= this.#reset) {
      this.#reset = now + WINDOW;
      this.#used = 0;
    }
    this.#used += 1;
    response.setHeader('x-rate-limit-limit', this.limit);
    response.setHeader('x-rate-limit-remaining', Math.max(0, this.limit - this.#used));
    response.setHeader('x-rate-limit-reset', this.#reset);
  }

  #page(response, url, groups, foreign) {
    const size = Math.min(+(url.searchParams.get('limit') ?? this.pageSize) || this.pageSize, this.pageSize);
    const after = url.searchParams.get('after');
    const start = after ? groups.findIndex((group) => group.id === after) + 1 : 0;
    const page = groups.slice(start, start + size);
    const links = [`<${this.org}${url.pathname}${url.search}>; rel="self"`];
    if (start + size < groups.length) {
      const host = foreign ? 'http://elsewhere.invalid' : this.org;
      links.push(`<${host}${url.pathname}?after=${page.at(-1).id}&limit=${size}>; rel="next"`);
    }
    response.setHeader('link', links);
    send(response, 200, page.map((group) => this.#describe(group)));
  }

  #user({ id, login, name }) {
    const [firstName, ...rest] = name.split(' ');
    const status = this.disabled.has(login) ? 'DEPROVISIONED' : 'ACTIVE';
    return { id, status, type: { id: 'oty1example' }, profile: { login, email: login, firstName, lastName: rest.join(' ') } };
  }

  #describe({ id, name }) {
    const date = '2020-01-01T00:00:00.000Z';
    return {
      id,
      created: date,
      lastUpdated: date,
      lastMembershipUpdated: date,
      objectClass: ['okta:user_group'],
      type: name === 'Everyone' ? 'BUILT_IN' : 'OKTA_GROUP',
      profile: { name, description: `Members of ${name}` },
      _links: {
        users: { href: `${this.org}/api/v1/groups/${id}/users` },
        apps: { href: `${this.org}/api/v1/groups/${id}/apps` },
      },
    };
  }
}

function refuse(response, status, errorCode, errorSummary) {
  const errorId = `oae${randomBytes(10).toString('base64url')}`;
  send(response, status, { errorCode, errorSummary, errorLink: errorCode, errorId, errorCauses: [] });
}

function send(response, status, body) {
  const wrong = mistake(response.method, response.path, status, body);
  if (wrong) console.error(wrong);
  response.statusCode = wrong ? 500 : status;
  response.end(JSON.stringify(wrong ? { errorSummary: wrong } : body));
}
