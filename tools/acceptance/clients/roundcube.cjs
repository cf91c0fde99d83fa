// Uses Roundcube as people do, in a headless Chromium; prints a line of JSON for each step.
//
//   node roundcube.cjs PLAYWRIGHT-CORE CHROMIUM URL PASSWORD SCREENSHOTS
'use strict';
const [, , core, executablePath, url, password, shots] = process.argv;
const { chromium } = require(core);

const OTHERS = 'Other Users/alice/Work';
const say = (step, told = {}) => console.log(JSON.stringify({ step, ...told }));

// Until the page has asked all that it had to ask.
const settled = (page) =>
  page.waitForFunction(() => window.rcmail && !window.rcmail.busy && !window.$.active);

const rows = '#messagelist tbody tr.message';
const subjects = (page) => page.locator(`${rows} td.subject span.subject a`).allInnerTexts();

// Until so many messages are listed; those on their way out are hidden.
async function shown(page, count) {
  await page.waitForFunction(([rows, count]) =>
    [...document.querySelectorAll(rows)].filter((one) => one.offsetParent).length === count,
  [rows, count]);
  await settled(page);
}

async function logIn(browser, user) {
  const page = await (await browser.newContext({ viewport: { width: 1400, height: 900 } })).newPage();
  page.setDefaultTimeout(10000);
  page.on('dialog', (dialog) => dialog.accept());
  await page.goto(`${url}/?_task=login`);
  await page.fill('#rcmloginuser', user);
  await page.fill('#rcmloginpwd', password);
  await page.click('#rcmloginsubmit');
  await page.waitForSelector('#messagelist', { state: 'attached' });
  await settled(page);
  return page;
}

const row = (page, subject) => page.locator(rows, { hasText: subject });

// Opens a message in the preview; gives its frame.
async function open(page, subject) {
  await row(page, subject).locator('td.subject').click();
  const frame = page.frameLocator('#messagecontframe');
  await frame.locator('h2.subject', { hasText: subject }).waitFor();
  await settled(page);
  return frame;
}

async function command(page, ...words) {
  await page.evaluate((words) => window.rcmail.command(...words), words);
  await settled(page);
}

async function readsAndSorts(page) {
  await shown(page, 4);
  say('listed', { subjects: await subjects(page), quota: await page.locator('#quotadisplay').innerText() });
  await page.screenshot({ path: `${shots}/roundcube-list.png` });

  let frame = await open(page, 'Grüße');
  say('html', {
    bold: await frame.locator('.message-htmlpart b').innerText(),
    attachments: await frame.locator('#attachment-list li').allInnerTexts(),
  });
  await page.screenshot({ path: `${shots}/roundcube-html.png` });
  frame = await open(page, 'plain one');
  say('text', { text: await frame.locator('#messagebody').innerText() });

  await row(page, 'flag me').locator('td.flags span.flag').click();
  await settled(page);
  await page.fill('#mailsearchform', 'plain');
  await page.press('#mailsearchform', 'Enter');
  await shown(page, 1);
  say('found', { subjects: await subjects(page) });
  await command(page, 'reset-search');
  await shown(page, 4);

  await open(page, 'move me');
  await command(page, 'move', 'Work');
  await shown(page, 3);
  await open(page, 'plain one');
  await command(page, 'delete');
  await shown(page, 2);
  await command(page, 'list', 'Trash');
  await shown(page, 1);
  say('trashed', { subjects: await subjects(page) });
}

async function shares(page) {
  await page.goto(`${url}/?_task=settings&_action=edit-folder&_mbox=Work`);
  await settled(page);
  await command(page, 'acl-create');
  await page.fill('#acluser', 'bob');
  await page.screenshot({ path: `${shots}/roundcube-acl.png` });
  await page.locator('.ui-dialog-buttonset button.mainaction').click();
  await page.locator('#acltable td.user', { hasText: 'bob' }).waitFor({ state: 'attached' });
  await settled(page);
  say('shared', { users: await page.locator('#acltable td.user').allInnerTexts() });
}

async function seesWhatIsShared(page) {
  await page.goto(`${url}/?_task=settings&_action=folders`);
  await settled(page);
  await page.screenshot({ path: `${shots}/roundcube-folders.png` });
  await page.locator(`input[name="_subscribed[]"][value="${OTHERS}"]`).check({ force: true });
  await settled(page);
  await page.goto(`${url}/?_task=mail`);
  await settled(page);
  await command(page, 'list', OTHERS);
  await shown(page, 1);
  say('seen', {
    subjects: await subjects(page),
    folders: await page.locator('#mailboxlist a').evaluateAll((all) => all.map((a) => a.rel)),
  });
  await page.screenshot({ path: `${shots}/roundcube-shared.png` });
}

async function main() {
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
  try {
    const alice = await logIn(browser, 'alice');
    await readsAndSorts(alice);
    await shares(alice);
    await seesWhatIsShared(await logIn(browser, 'bob'));
    say('done');
  } catch (error) {
    for (const [at, page] of browser.contexts().flatMap((one) => one.pages()).entries()) {
      await page.screenshot({ path: `${shots}/roundcube-failed-${at}.png` });
    }
    throw error;
  } finally {
    await browser.close();
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
