//! The languages of texts for people: RFC 5255 (IMAP), RFC 6856 section 3 (POP3).
//!
//! Texts are written in English all over the code; here they get their translations. What has none
//! (numbers and names in it, mostly) stays English, which RFC 2277 allows: clients go by codes.

use std::borrow::Cow;

/// A language that texts can be had in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Language {
    /// English that everybody understands (RFC 2277 section 4.5).
    #[default]
    Default,
    English,
    German,
}

impl Language {
    /// Each.
    pub(crate) const ALL: [Language; 3] = [Language::English, Language::German, Language::Default];

    /// Its name (RFC 4646).
    pub(crate) fn tag(self) -> &'static str {
        match self {
            Language::Default => "i-default",
            Language::English => "en",
            Language::German => "de",
        }
    }

    /// Its name in itself.
    pub(crate) fn own_name(self) -> &'static str {
        match self {
            Language::Default | Language::English => "English",
            Language::German => "Deutsch",
        }
    }

    /// The language that a range names, by the lookup of RFC 4647 section 3.4: `de-AT` finds `de`.
    pub(crate) fn of_range(range: &str) -> Option<Language> {
        if range.eq_ignore_ascii_case("default") || range == "*" {
            return Some(Language::default());
        }
        let mut range = range;
        loop {
            let found = Language::ALL.iter().find(|l| l.tag().eq_ignore_ascii_case(range));
            if let Some(found) = found {
                return Some(*found);
            }
            (range, _) = range.rsplit_once('-')?;
        }
    }

    /// A text in this language.
    pub(crate) fn say<'t>(self, text: &'t str) -> Cow<'t, str> {
        match self {
            Language::Default | Language::English => Cow::Borrowed(text),
            Language::German => {
                let found = GERMAN.binary_search_by_key(&text, |(english, _)| *english);
                Cow::Borrowed(found.map_or(text, |at| GERMAN[at].1))
            }
        }
    }
}

/// Sorted by the English text.
const GERMAN: &[(&str, &str)] = &[
    ("Account is disabled", "Das Konto ist gesperrt"),
    ("Already logged in", "Schon angemeldet"),
    ("Appended", "Abgelegt"),
    ("Command too long", "Befehl zu lang"),
    ("Completed", "Ausgeführt"),
    ("Created", "Angelegt"),
    ("Cursus POP3 ready", "Cursus POP3 ist bereit"),
    ("Empty message", "Die Nachricht ist leer"),
    ("INBOX exists", "INBOX gibt es schon"),
    ("Language changed", "Sprache gewechselt"),
    ("Language is not spoken here", "Diese Sprache wird nicht gesprochen"),
    ("Line too long", "Zeile zu lang"),
    ("Literal too large", "Literal zu groß"),
    ("Log in first", "Erst anmelden"),
    ("Logged in", "Angemeldet"),
    ("Logged out for inactivity", "Wegen Untätigkeit abgemeldet"),
    ("Logging out", "Auf Wiedersehen"),
    ("Logins are not possible at the moment", "Anmeldungen sind im Augenblick nicht möglich"),
    ("Mailbox already exists", "Das Postfach gibt es schon"),
    ("Mailbox is selected read-only", "Das Postfach ist nur zum Lesen ausgewählt"),
    ("Mailbox was deleted", "Das Postfach wurde gelöscht"),
    ("Message is expunged", "Die Nachricht ist gelöscht"),
    ("No login in time", "Keine rechtzeitige Anmeldung"),
    ("No space left in the mail store", "Im Mailspeicher ist kein Platz mehr"),
    ("No such mailbox", "Dieses Postfach gibt es nicht"),
    ("Other Users", "Andere Benutzer"),
    ("Previous mailbox closed", "Das vorige Postfach ist geschlossen"),
    ("Public Folders", "Gemeinsame Postfächer"),
    ("Quota exceeded", "Das Kontingent ist erschöpft"),
    ("Renamed", "Umbenannt"),
    ("Replaced", "Ersetzt"),
    ("Replacement message ready", "Der Ersatz ist abgelegt"),
    ("Select a mailbox first", "Erst ein Postfach auswählen"),
    ("Selected", "Ausgewählt"),
    ("Sequence number beyond the last message", "Nummer jenseits der letzten Nachricht"),
    ("Server is shutting down", "Der Server wird angehalten"),
    ("Shared Folders", "Gemeinsame Ordner"),
    ("Start TLS before you log in", "Vor der Anmeldung TLS beginnen"),
    (
        "TLS isn't available here, or is in use already",
        "TLS gibt es hier nicht, oder es ist schon in Gebrauch",
    ),
    ("The URL names nothing here", "Die URL bezeichnet hier nichts"),
    ("The mail store has a temporary problem", "Der Mailspeicher hat vorübergehend ein Problem"),
    ("The mail store's quota is used up", "Das Kontingent des Mailspeichers ist erschöpft"),
    ("The selected mailbox was deleted", "Das ausgewählte Postfach wurde gelöscht"),
    ("Too many failed logins", "Zu viele fehlgeschlagene Anmeldungen"),
    ("Too many logins are waiting", "Zu viele Anmeldungen warten"),
    ("Too many messages at once", "Zu viele Nachrichten auf einmal"),
    ("UTF-8 it is", "Es gilt UTF-8"),
    ("Unknown charset", "Unbekannter Zeichensatz"),
    ("Unknown command", "Unbekannter Befehl"),
    ("Unknown mechanism", "Unbekanntes Verfahren"),
    ("Wrong user name or password", "Falscher Name oder falsches Passwort"),
    ("another POP3 session has this maildrop", "Eine andere POP3-Sitzung hat dieses Postfach"),
    ("another session removed this message", "Eine andere Sitzung hat diese Nachricht gelöscht"),
    ("authentication cancelled", "Anmeldung abgebrochen"),
    ("bad authentication exchange", "Die Anmeldung entspricht nicht dem Verfahren"),
    ("begin TLS", "TLS beginnen"),
    ("bye", "Auf Wiedersehen"),
    ("expected base64", "Erwartet wird Base64"),
    ("line too long", "Zeile zu lang"),
    ("log in first", "Erst anmelden"),
    (
        "logins aren't possible now, try again later",
        "Anmeldungen sind jetzt nicht möglich, später noch einmal versuchen",
    ),
    ("logins need TLS: use STLS first", "Anmeldungen brauchen TLS: erst STLS"),
    ("message is deleted", "Die Nachricht ist gelöscht"),
    ("no such message", "Diese Nachricht gibt es nicht"),
    ("not allowed to act as that user", "Darf nicht für diesen Benutzer handeln"),
    ("send PASS", "Jetzt PASS"),
    ("send USER first", "Erst USER"),
    ("server stops", "Der Server wird angehalten"),
    ("some deleted messages were not removed", "Einige gelöschte Nachrichten sind noch da"),
    (
        "the last login was too short a time ago",
        "Die letzte Anmeldung ist noch nicht lang genug her",
    ),
    ("the maildrop can't be opened", "Das Postfach lässt sich nicht öffnen"),
    ("the maildrop is open on another server", "Das Postfach ist auf einem anderen Server offen"),
    ("the message can't be read now", "Die Nachricht lässt sich jetzt nicht lesen"),
    ("this account is disabled", "Das Konto ist gesperrt"),
    (
        "this language isn't spoken here, see LANG",
        "Diese Sprache wird nicht gesprochen, siehe LANG",
    ),
    ("this login can read and nothing else", "Diese Anmeldung kann nur lesen"),
    ("too many bad commands", "Zu viele falsche Befehle"),
    ("too many failed logins", "Zu viele fehlgeschlagene Anmeldungen"),
    (
        "too many failed logins from your address",
        "Zu viele fehlgeschlagene Anmeldungen von dieser Adresse",
    ),
    ("top of message follows", "Es folgt der Anfang der Nachricht"),
    ("unknown command", "Unbekannter Befehl"),
    ("unknown mechanism: see CAPA", "Unbekanntes Verfahren, siehe CAPA"),
    ("wrong user name or password", "Falscher Name oder falsches Passwort"),
    ("you are logged in already", "Schon angemeldet"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_find_the_language_that_is_nearest() {
        let tag = |range| Language::of_range(range).map(Language::tag);
        assert_eq!(tag("DE"), Some("de"));
        assert_eq!(tag("de-AT-1996"), Some("de"));
        assert_eq!(tag("EN-CA"), Some("en"));
        assert_eq!(tag("i-default"), Some("i-default"));
        assert_eq!(tag("default"), Some("i-default"));
        for unknown in ["MUL", "FR-CA", "i", "", "-", "d"] {
            assert_eq!(tag(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn texts_are_found_in_their_order() {
        assert!(GERMAN.is_sorted_by_key(|(english, _)| english));
        assert_eq!(Language::German.say("Selected"), "Ausgewählt");
        assert_eq!(Language::German.say("something else"), "something else");
        assert_eq!(Language::English.say("Selected"), "Selected");
    }
}
