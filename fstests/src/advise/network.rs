//! The checks of mounts that are a file server's: what it promises, what its client keeps.

use engine::io::blocking::Blocking;

use super::checks::{MESSAGE_BYTES, Site};
use super::finding::{Advice, Finding, Measurement, Weight};
use super::probe::{self, quiet};
use crate::error::Result;
use crate::facts::{FlushTruth, Verdict, nfs};

/// Bytes of a request to a file server below which messages take several.
const RSIZE_MIN: u64 = 65_536;

/// An NFS server that answers before it has written.
pub(super) fn exports(site: &Site, advice: &mut Advice) -> Result<()> {
    if !site.mount.is_nfs() {
        return Ok(());
    }
    let source = &site.mount.source;
    let Some(options) = nfs::export_options(source) else {
        let host = source.split(':').next().unwrap_or_default();
        site.note(
            advice,
            &format!("whether {host} exports with async only {host} knows: exportfs -v"),
        );
        return Ok(());
    };
    let waits = !options.iter().any(|option| option == "async");
    // Where this host is the server, its disk tells what became of a client's syncs. A sync may take
    // several flushes.
    let truth = FlushTruth::test(&Blocking::new(), site.scratch.path())?;
    let told = format!("; {}", truth.reason);
    if let Some(flushes) = truth.flushes.filter(|_| truth.verdict != Verdict::NotKnown) {
        let now = flushes.min(truth.syncs) as f64;
        advice.measured.push(Measurement {
            id: "nfs-async".to_owned(),
            what: "synced appends of a client that reached the file server's disk".to_owned(),
            unit: format!("of {}", truth.syncs),
            now,
            then: if waits { now } else { truth.syncs as f64 },
        });
    }
    if waits {
        site.note(advice, &format!("the export waits for its disk (sync){told}"));
        return Ok(());
    }
    let title = "the file server exports with async".to_owned();
    let path = source.split_once(':').map_or("", |(_, path)| path);
    advice.findings.push(Finding {
        number: format!("export options: {}{told}", options.join(",")),
        reason: "it answers a sync before the data is on its disk: when it goes down, \
                 acknowledged mail is gone and no client is told"
            .to_owned(),
        risk: "deliveries take as long as the server's disk needs".to_owned(),
        command: format!(
            "on the server: sync instead of async in /etc/exports for {path}, then exportfs -ra"
        ),
        ..site.finding("nfs-async", Weight::Danger, title)
    });
    Ok(())
}

/// NFS options of the client.
pub(super) fn options(site: &Site, advice: &mut Advice) -> Result<()> {
    if !site.mount.is_nfs() {
        return Ok(());
    }
    let zero = |name: &str| site.mount.value(name) == Some("0");
    let uncached = site.mount.has("noac") || (zero("acregmin") && zero("acdirmin"));
    let turns = probe::repeated_stats(site.scratch.path())?;
    let factor = site.weigh(advice, "attributes", "looking at a file again", "us", &turns);
    if let (true, Some(factor)) = (uncached, factor) {
        let title = "attributes are not cached (noac or actimeo=0)".to_owned();
        advice.findings.push(Finding {
            number: format!(
                "a look at a file: {:.1} us, of which {:.1} us are this host's own work, which is \
                 all that is left of it where attributes are cached",
                quiet(&turns.now),
                quiet(&turns.then)
            ),
            reason: "each look asks the server; the store asks it by itself where it must be sure"
                .to_owned(),
            risk: "other software that shares the tree sees changes up to a minute late".to_owned(),
            command: format!(
                "umount {at} && mount {at}, with the line below",
                at = site.mount.at.display()
            ),
            fstab: site
                .mount
                .fstab_line(&["noac", "acregmin", "acregmax", "acdirmin", "acdirmax", "sync"], &[]),
            ..site.finding("nfs-noac", Weight::Cost(factor), title)
        });
    }
    let rsize = site.mount.value("rsize").and_then(|size| size.parse().ok()).unwrap_or(RSIZE_MIN);
    if rsize < RSIZE_MIN {
        let title = format!("requests are small (rsize={rsize})");
        // Round trips for a message: the measured cost of one is that of an uncached look.
        let (now, then) = (MESSAGE_BYTES.div_ceil(rsize), MESSAGE_BYTES.div_ceil(RSIZE_MIN));
        advice.findings.push(Finding {
            number: format!(
                "{now} requests for a message of {MESSAGE_BYTES} bytes, would be {then}"
            ),
            reason: "servers of today take a mebibyte at once".to_owned(),
            risk: "none".to_owned(),
            command: format!(
                "umount {at} && mount {at}, with the line below",
                at = site.mount.at.display()
            ),
            fstab: site.mount.fstab_line(&["rsize", "wsize"], &["rsize=1048576", "wsize=1048576"]),
            ..site.finding("nfs-rsize", Weight::Cost(now as f64 / then as f64), title)
        });
    }
    Ok(())
}
