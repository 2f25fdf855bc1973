// The demo as somebody sees it who tries it for the first time: Chromium, clicks, and what each person gets to see.
//
//   node login.mjs <portcullis> <folder for screenshots>
//
// Starts `portcullis demo` on a free port and reads from what it prints which page to open.

import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { createServer } from 'node:net';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import assert from 'node:assert/strict';

const require = createRequire(new URL('../idp/package.json', import.meta.url));
const { chromium } = require('playwright-core');
const [binary, screenshots] = process.argv.slice(2);
assert(binary && screenshots, 'usage: node login.mjs <portcullis> <folder for screenshots>');
mkdirSync(screenshots, { recursive: true });

/** Who can be clicked on at the demo's provider, and what the first application then shows. */
const PEOPLE = [
  { name: /alice/i, allowed: true, email: /alice@/i },
  { name: /bob/i, allowed: false, email: /bob@/i },
  { name: /carol/i, allowed: true, email: /carol@/i },
];

const port = await freePort();
const demo = spawn(binary, ['demo', '--port', String(port)], { stdio: ['ignore', 'pipe', 'pipe'] });
let said = '';
for (const stream of [demo.stdout, demo.stderr]) stream.on('data', (bytes) => (said += bytes));
let browser;
try {
  const start = await printedUrl();
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: [
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
  for (const javaScriptEnabled of [true, false]) {
    for (const person of PEOPLE) await login(start, person, javaScriptEnabled);
  }
  await severalTabs(start);
  await logout(start);
  await phoneInTheDark(start);
  console.log('the demo shows everybody what it should');
} catch (error) {
  console.error(`--- portcullis said\n${said.slice(-4000)}`);
  throw error;
} finally {
  await browser?.close();
  if (demo.exitCode === null) {
    const ended = new Promise((resolve) => demo.on('exit', resolve));
    demo.kill('SIGINT');
    await ended;
  }
}

async function login(start, person, javaScriptEnabled) {
  const what = `${person.name} with${javaScriptEnabled ? '' : 'out'} JavaScript`;
  const context = await browser.newContext({ javaScriptEnabled });
  const page = await context.newPage();
  const complaints = [];
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(String(error)));

  const opened = new URL('some/page?with=query', start).href;
  await page.goto(opened);
  await chooseProvider(page);
  const response = await signIn(page, person);
  if (person.allowed) {
    assert.equal(response.status(), 200, what);
    assert.equal(page.url(), opened, `${what} is on the page first asked for`);
    assert.match(await page.innerText('body'), person.email, `${what}: the application knows who it is`);
    await page.screenshot({ path: path.join(screenshots, 'application.png') });
  } else {
    assert.equal(response.status(), 403, what);
    assert.match(await page.innerText('body'), person.email, `${what}: the page says who is signed in`);
    assert.match(await page.innerText('body'), /request id/i, what);
    // The browser itself reports the 403.
    complaints.splice(0, complaints.length, ...complaints.filter((text) => !text.includes('403')));
    await page.screenshot({ path: path.join(screenshots, 'denied.png') });
  }
  assert.deepEqual(complaints, [], `${what}: the console is quiet`);
  await context.close();
}

/** Passes the list of providers where there is one. */
async function chooseProvider(page) {
  if (!new URL(page.url()).pathname.startsWith('/cdn-cgi/access/login/')) return;
  await page.screenshot({ path: path.join(screenshots, 'login.png') });
  await page.locator('a.choice').first().click();
  await page.waitForLoadState();
}

/** Clicks on a person at the demo's provider, and waits for the page it all ends on. */
async function signIn(page, { name }) {
  const choice = page.getByRole('button', { name }).or(page.getByRole('link', { name })).first();
  await choice.waitFor();
  let last;
  const remember = (response) => {
    if (response.request().isNavigationRequest()) last = response;
  };
  page.on('response', remember);
  await choice.click();
  await page.waitForURL((url) => !isPassage(url));
  await page.waitForLoadState();
  page.off('response', remember);
  return last;
}

/** Whether a login only passes through this place. A refusal is shown in place, on the team domain or the application's host. */
function isPassage(url) {
  return /\/cdn-cgi\/access\/authorized/.test(url.pathname) || /authorize/.test(url.pathname);
}

async function severalTabs(start) {
  const context = await browser.newContext();
  const tabs = await Promise.all([1, 2, 3].map(async (number) => {
    const page = await context.newPage();
    const url = new URL(`tab/${number}`, start).href;
    await page.goto(url);
    await chooseProvider(page);
    return { page, url };
  }));
  for (const { page, url } of tabs.reverse()) {
    await signIn(page, PEOPLE[0]);
    assert.equal(page.url(), url, 'each tab lands on its own page');
  }
  await context.close();
}

async function logout(start) {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(start);
  await chooseProvider(page);
  await signIn(page, PEOPLE[0]);
  await page.goto(new URL('/cdn-cgi/access/logout', start).href);
  const confirm = page.getByRole('button', { name: /sign out/i });
  if (await confirm.count()) await confirm.click();
  await page.waitForLoadState();
  assert.match(await page.innerText('body'), /signed out/i);
  await page.goto(start);
  assert.notEqual(new URL(page.url()).host, new URL(start).host, 'after signing out the application asks again');
  await context.close();
}

async function phoneInTheDark(start) {
  const viewport = { width: 360, height: 640 };
  const context = await browser.newContext({ viewport, colorScheme: 'dark', isMobile: true, hasTouch: true });
  const page = await context.newPage();
  await page.goto(start);
  await chooseProvider(page);
  await signIn(page, PEOPLE[1]);
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

/** The first page that the demo tells people to open. */
async function printedUrl() {
  for (let tries = 0; tries < 300; tries += 1) {
    const url = said.match(/https?:\/\/[\w.-]+\.localhost(?::\d+)?[^\s'"`]*/)?.[0];
    if (url) return new URL('/', url).href;
    assert.equal(demo.exitCode, null, `the demo ended: ${said}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error('the demo prints no page to open');
}

function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port: free } = server.address();
      server.close(() => resolve(free));
    });
  });
}
