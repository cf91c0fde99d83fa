// One ImapFlow client, driven by test_libraries.py: tells each step in a line of JSON, and waits for
// a line where the test has something to do.
"use strict";

const [imapflow, port, user, pass] = process.argv.slice(2);
const { ImapFlow } = require(imapflow);
const input = require("readline").createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const sent = [];

function plain(key, value) {
    if (typeof value === "bigint") return value.toString();
    if (value instanceof Set) return [...value].sort();
    if (value instanceof Map) return Object.fromEntries(value);
    return value;
}

const tell = (step, what) => console.log(JSON.stringify({ step, ...what }, plain));

async function connect() {
    const note = entry => entry.src === "s" || sent.push(String(entry.msg || ""));
    const logger = { debug: note, info: note, warn: note, error: note, trace: note };
    const client = new ImapFlow({
        host: "127.0.0.1", port: Number(port), secure: false, doSTARTTLS: false,
        auth: { user, pass }, qresync: true, disableAutoIdle: true, logger,
    });
    await client.connect();
    return client;
}

async function texts(client, range, options) {
    const query = {
        uid: true, flags: true, envelope: true, bodyStructure: true, internalDate: true, size: true,
        threadId: true, source: true,
    };
    const all = await client.fetchAll(range, query, options);
    return all.map(one => ({
        uid: one.uid, flags: one.flags, subject: one.envelope.subject, type: one.bodyStructure.type,
        date: one.internalDate, size: one.size, emailId: one.emailId, threadId: one.threadId,
        source: one.source.toString("latin1"), modseq: one.modseq,
    }));
}

async function main() {
    let client = await connect();
    const compressed = sent.some(line => line.includes("COMPRESS"));
    tell("connected", { enabled: client.enabled, compressed });

    const created = await client.mailboxCreate("Größe");
    for (const [subject, flags] of [["one", []], ["=?utf-8?Q?gr=C3=BC=C3=9Fe?=", ["\\Seen"]], ["three", []]]) {
        const message = `From: a@example.org\r\nSubject: ${subject}\r\n\r\nText of ${subject}\r\n`;
        await client.append("INBOX", message, flags, new Date("2001-02-03T04:05:06Z"));
    }
    const listed = await client.list({ statusQuery: { messages: true, uidNext: true } });
    tell("made", { created, listed: listed.map(l => [l.path, l.status && l.status.messages, l.specialUse]) });

    await client.mailboxOpen("INBOX");
    const { mailboxId, highestModseq, uidValidity, permanentFlags } = client.mailbox;
    tell("opened", { mailboxId, highestModseq, uidValidity, permanentFlags });
    tell("fetched", { messages: await texts(client, "1:*") });
    tell("found", {
        subject: await client.search({ subject: "grüße" }, { uid: true }),
        either: await client.search({ or: [{ subject: "one" }, { body: "three" }] }, { uid: true }),
        none: await client.search({ from: "nobody", seen: true }, { uid: true }),
    });
    const flagged = await client.messageFlagsAdd({ subject: "one" }, ["\\Flagged", "$Important"]);
    const copied = await client.messageCopy("1", "Größe");
    const moved = await client.messageMove("2", "Größe", { uid: true });
    const { content } = await client.download("1", undefined, { uid: true });
    let downloaded = "";
    for await (const piece of content) downloaded += piece.toString("latin1");
    tell("changed", { flagged, copied, moved, downloaded });
    tell("quota", { quota: await client.getQuota("INBOX") });

    // The test delivers, flags and removes while the client idles.
    const heard = [];
    for (const event of ["exists", "flags", "expunge"]) {
        client.on(event, what => heard.push({ event, ...what }));
    }
    const idling = client.idle();
    tell("idling", {});
    await input.next();
    await client.noop();
    await idling;
    tell("heard", { heard });

    const known = { changedSince: client.mailbox.highestModseq, uidValidity: client.mailbox.uidValidity };
    await client.logout();
    tell("away", {});
    await input.next();

    client = await connect();
    const news = [];
    for (const event of ["flags", "expunge"]) client.on(event, what => news.push({ event, ...what }));
    await client.mailboxOpen("INBOX", known);
    const { qresync } = client.mailbox;
    const changed = await texts(client, "1:*", { uid: true, changedSince: known.changedSince });
    tell("back", { qresync, news, changed });
    await client.messageDelete("1:*", { uid: true });
    await client.mailboxClose();
    await client.mailboxDelete("Größe");
    tell("status", { status: await client.status("INBOX", { messages: true, highestModseq: true, size: true }) });
    await client.logout();
    tell("done", {});
}

main().then(() => process.exit(0), error => {
    console.error(error, sent.slice(-5));
    process.exit(1);
});
