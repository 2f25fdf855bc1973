// Tries the demo in Chromium as a new user would.
//
//   node login.mjs <portcullis> <folder for screenshots>
//
// Starts `portcullis demo` on free ports, and compares each result with the table that it prints.

import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import assert from 'node:assert/strict';
import { freePorts, launch } from './chromium.mjs';

const [binary, screenshots] = process.argv.slice(2);
assert(binary && screenshots, 'usage: node login.mjs <portcullis> <folder for screenshots>');
mkdirSync(screenshots, { recursive: true });

const port = await freePorts(3);
const demo = spawn(binary, ['demo', '--port', String(port)], { stdio: ['ignore', 'pipe', 'pipe'] });
let output = '';
for (const stream of [demo.stdout, demo.stderr]) stream.on('data', (bytes) => (output += bytes));
let browser;
try {
  const { pages, users } = await readOutput();
  const first = pages[0];
  const allowed = users.find((user) => user.expected[first.name] === 'opens');
  const denied = users.find((user) => Object.values(user.expected).includes('denied'));
  assert(pages.length >= 3 && users.length >= 4 && allowed && denied, output);
  browser = await launch();
  for (const user of users) {
    for (const page of pages.filter(({ name }) => name in user.expected)) await visit(page, user, true);
    await visit(pages.findLast(({ name }) => name in user.expected), user, false);
  }
  await withoutLogin(pages.find(({ name }) => !(name in allowed.expected)));
  await severalTabs(first.url, allowed);
  await logout(first.url, allowed);
  await phoneInTheDark(pages.find(({ name }) => denied.expected[name] === 'denied').url, denied);
  console.log('every user has the access that the demo prints');
} catch (error) {
  console.error(`--- output of portcullis\n${output.slice(-4000)}`);
  throw error;
} finally {
  await browser?.close();
  if (demo.exitCode === null) {
    const ended = new Promise((resolve) => demo.on('exit', resolve));
    demo.kill('SIGINT');
    await ended;
  }
}

async function visit({ name, url }, user, javaScriptEnabled) {
  const expected = user.expected[name];
  const what = `${user.name} at ${name} with${javaScriptEnabled ? '' : 'out'} JavaScript`;
  const context = await browser.newContext({ javaScriptEnabled });
  const page = await context.newPage();
  const complaints = [];
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(String(error)));

  const opened = new URL('some/page?with=query', url).href;
  await page.goto(opened);
  await chooseProvider(page);
  const status = await signIn(page, user);
  const text = await page.innerText('body');
  if (expected === 'opens') {
    assert.equal(status, 200, what);
    assert.equal(page.url(), opened, `${what} is on the requested page`);
    assert.match(text, user.email, `${what}: the application shows the user`);
    await page.screenshot({ path: path.join(screenshots, 'application.png') });
  } else {
    assert(status >= 400 && status < 500, `${what}: ${status}`);
    assert.match(text, /request id/i, what);
    if (expected === 'denied') {
      assert.equal(status, 403, what);
      assert.match(text, user.email, `${what}: the page shows the account`);
      await page.screenshot({ path: path.join(screenshots, 'denied.png') });
    }
  }
  // The browser itself reports a refusal.
  const real = complaints.filter((complaint) => !/status of 4\d\d/.test(complaint));
  assert.deepEqual(real, [], `${what}: the console is quiet`);
  await context.close();
}

async function withoutLogin({ url }) {
  const context = await browser.newContext();
  const page = await context.newPage();
  const response = await page.goto(url);
  assert.deepEqual([response.status(), page.url()], [200, url], 'what is open is open');
  await context.close();
}

/** Passes the list of providers where there is one. */
async function chooseProvider(page) {
  if (!new URL(page.url()).pathname.startsWith('/cdn-cgi/access/login/')) return;
  await page.screenshot({ path: path.join(screenshots, 'login.png') });
  await page.locator('a.choice').first().click();
  await page.waitForLoadState();
}

/** Chooses a user at the demo provider, follows all redirects, and returns the status of the last page. */
async function signIn(page, { name }) {
  const choice = page.getByRole('button', { name }).or(page.getByRole('link', { name })).first();
  await choice.waitFor();
  const provider = new URL(page.url()).host;
  let status;
  page.on('response', (response) => {
    if (response.request().isNavigationRequest()) status = response.status();
  });
  await choice.click();
  await page.waitForURL(({ host, pathname }) => host !== provider && !pathname.endsWith('/cdn-cgi/access/authorized'));
  await page.waitForLoadState();
  return status;
}

async function severalTabs(start, user) {
  const context = await browser.newContext();
  const tabs = await Promise.all([1, 2, 3].map(async (number) => {
    const page = await context.newPage();
    const url = new URL(`tab/${number}`, start).href;
    await page.goto(url);
    await chooseProvider(page);
    return { page, url };
  }));
  for (const { page, url } of tabs.reverse()) {
    await signIn(page, user);
    assert.equal(page.url(), url, 'each tab lands on its own page');
  }
  await context.close();
}

async function logout(start, user) {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(start);
  await chooseProvider(page);
  await signIn(page, user);
  await page.goto(new URL('/cdn-cgi/access/logout', start).href);
  const confirm = page.getByRole('button', { name: /sign out/i });
  if (await confirm.count()) await confirm.click();
  await page.waitForLoadState();
  assert.match(await page.innerText('body'), /signed out/i);
  await page.goto(start);
  assert.notEqual(new URL(page.url()).host, new URL(start).host, 'after signing out the application requires a login');
  await context.close();
}

async function phoneInTheDark(start, user) {
  const viewport = { width: 360, height: 640 };
  const context = await browser.newContext({ viewport, colorScheme: 'dark', isMobile: true, hasTouch: true });
  const page = await context.newPage();
  await page.goto(start);
  await chooseProvider(page);
  await signIn(page, user);
  const [width, background] = await page.evaluate(() => {
    return [document.documentElement.scrollWidth, getComputedStyle(document.documentElement).backgroundColor];
  });
  assert(width <= viewport.width, `the page is ${width} wide on a phone of ${viewport.width}`);
  const body = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = [background, body].some((colour) => {
    const channels = colour.match(/[\d.]+/g).map(Number);
    return channels.length === 3 && Math.max(...channels) < 100;
  });
  assert(dark, `dark is not dark: ${background}, ${body}`);
  await page.screenshot({ path: path.join(screenshots, 'phone.png') });
  await context.close();
}

/** Reads the output of the demo: the applications, and the expected result for each user and application. */
async function readOutput() {
  for (let tries = 0; !output.includes('serving'); tries += 1) {
    assert(demo.exitCode === null && tries < 300, `the demo does not start: ${output}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const lines = output.split('\n');
  const pages = lines.flatMap((line) => {
    const [, url, name] = line.match(/^\s*(http:\/\/([\w-]+)\.localhost:\d+)\s{2,}\S/) ?? [];
    return url ? [{ name, url: `${url}/` }] : [];
  });
  const names = pages.map(({ name }) => name);
  const columns = lines.map((line) => line.trim().split(/\s+/)).find((words) => words.every((word) => names.includes(word)));
  assert(columns, `no table: ${output}`);
  const outcome = '(?:opens|denied|no login)';
  const row = new RegExp(`^\\s*(\\w+ \\w+)\\s{2,}\\S.*?\\s{2,}(${outcome}(?:\\s+${outcome})*)\\s*$`);
  const users = lines.flatMap((line) => {
    const [, name, outcomes] = line.match(row) ?? [];
    if (!name) return [];
    const cells = outcomes.match(new RegExp(outcome, 'g'));
    const expected = Object.fromEntries(columns.map((column, i) => [column, cells[i]]));
    return [{ name: new RegExp(name, 'i'), email: new RegExp(`${name.split(' ')[0]}@`, 'i'), expected }];
  });
  return { pages, users };
}
