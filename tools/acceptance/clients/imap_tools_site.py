"""What imap-tools' own tests import as `tests.utils`: which server they talk to, and its mailboxes.

Its sdist has the tests without this file, which holds the accounts of its author. The port is in
CURSUS_PORT; user and password are those of the acceptance suite, in CURSUS_USER and CURSUS_PASSWORD.
"""

import os
import unittest

from imap_tools import MailBoxUnencrypted

TEST_MAILBOX_NAME_SET = {"CURSUS"}
BASE = "imap-tools"
FOLDERS = {f"folder_test_{name}": f"{BASE}/{name}" for name in ("base", "temp1", "temp2", "new", "new1")}
LASTING = ("folder_test_base", "folder_test_temp1", "folder_test_temp2")
# So many the tests count in the folder "base", and at least one of them answered and flagged.
MESSAGES = 6


def get_test_mailbox(name):
    mailbox = MailBoxUnencrypted("127.0.0.1", int(os.environ["CURSUS_PORT"]))
    mailbox.login(os.environ["CURSUS_USER"], os.environ["CURSUS_PASSWORD"])
    mailbox.mailbox_name = name
    mailbox.folder_test = BASE
    for attribute, folder in FOLDERS.items():
        setattr(mailbox, attribute, folder)
    if not mailbox.folder.exists(BASE):
        fill(mailbox)
    return mailbox


def fill(mailbox):
    mailbox.folder.create(BASE)
    for attribute in LASTING:
        mailbox.folder.create(FOLDERS[attribute])
    # `IdleTest` fetches one message of what is selected after the login.
    mailbox.append(b"Subject: one\r\n\r\nText.\r\n", "INBOX")
    for number in range(MESSAGES):
        text = (f"From: Jo <jo@example.org>\r\nTo: al@example.org, Mo <mo@example.org>\r\n"
                f"Subject: number {number}\r\nDate: Sat, 22 Nov 2008 11:04:0{number} +1100\r\n"
                f"Content-Type: text/plain; charset=utf-8\r\n\r\nText of {number}.\r\n")
        flags = ["\\Answered", "\\Flagged"] if number % 2 else []
        mailbox.append(text.encode(), FOLDERS["folder_test_base"], flag_set=flags)


class MailboxTestCase(unittest.TestCase):
    def setUp(self):
        self.mailbox_set = {name: get_test_mailbox(name) for name in TEST_MAILBOX_NAME_SET}

    def tearDown(self):
        for mailbox in self.mailbox_set.values():
            mailbox.logout()


def get_test_mailbox_config(name):
    raise unittest.SkipTest(f"{name}: a connection by TLS to port 993, which is not a test's to take")
