//! `cursus config`: settings shown with their origins, checked, converted; what becomes of other
//! servers' options.

use std::path::Path;

use config::Origin;
use inherit::{Disk, Inherited, RemarkKind};
use serde_json::json;

use crate::cli::{Cli, ConfigCommand, PeerServer};
use crate::failure::{Failed, Kind};
use crate::output::{Output, Table};

/// Does `cursus config …`.
pub fn run(command: &ConfigCommand, cli: &Cli) -> Result<(), Failed> {
    let out = Output::new(cli.json);
    if let ConfigCommand::Options { server } = command {
        return options(*server, &out);
    }
    let read = cli.sources().read(&Disk)?;
    match command {
        ConfigCommand::Show { origin, set } => show(&read, *origin, *set, &out),
        ConfigCommand::Check => check(&read, &cli.sources().name(), &out),
        ConfigCommand::Convert { to } => convert(&read, to.as_deref(), &out)?,
        ConfigCommand::Options { .. } => {}
    }
    Ok(())
}

fn show(read: &Inherited, with_origin: bool, only_set: bool, out: &Output) {
    let mut all = read.loaded.shown();
    all.retain(|one| !only_set || one.origin != Origin::Default);
    let value = |one: &config::Shown| serde_json::to_value(&one.value).unwrap_or_default();
    let lines: Vec<_> = all
        .iter()
        .map(|one| match with_origin {
            true => {
                json!({ "key": one.key, "value": value(one), "origin": one.origin.to_string() })
            }
            false => json!({ "key": one.key, "value": value(one) }),
        })
        .collect();
    out.table(&lines, || Table {
        headings: if with_origin { &["key", "value", "origin"] } else { &["key", "value"] },
        rows: all
            .iter()
            .map(|one| {
                let mut row = vec![one.key.clone(), one.value.to_string()];
                row.extend(with_origin.then(|| one.origin.to_string()));
                row
            })
            .collect(),
    });
}

fn check(read: &Inherited, name: &str, out: &Output) {
    let remarks = &read.remarks;
    let missing = remarks.iter().filter(|r| r.kind == RemarkKind::NotServed).count();
    let lines: Vec<_> = remarks
        .iter()
        .map(|r| {
            json!({
                "file": r.file, "line": r.line, "option": r.option, "text": r.text,
                "kind": if r.kind == RemarkKind::NotServed { "not served" } else { "not needed" },
            })
        })
        .collect();
    let mut text: String = remarks.iter().map(|remark| format!("{remark}\n")).collect();
    text.push_str(&format!("{name}: good"));
    if missing > 0 {
        text.push_str(&format!("; {missing} things are not served"));
    }
    out.line(&json!({ "good": true, "remarks": lines }), &text);
}

fn convert(read: &Inherited, to: Option<&Path>, out: &Output) -> Result<(), Failed> {
    let text = read.loaded.to_toml();
    match to {
        None => out.line(&json!({ "toml": text }), text.trim_end()),
        Some(file) => {
            std::fs::write(file, &text).map_err(|error| {
                Failed::new(Kind::Incomplete, format!("{}: {error}", file.display()))
            })?;
            let settings = read.loaded.origins.iter().count();
            let told = format!("{settings} settings written to {}", file.display());
            out.line(&json!({ "settings": settings, "file": file }), &told);
        }
    }
    Ok(())
}

fn options(server: PeerServer, out: &Output) -> Result<(), Failed> {
    let text = match server {
        PeerServer::Courier => inherit::courier::table::document(),
        PeerServer::Cyrus => inherit::cyrus::table::document(),
    };
    out.line(&json!({ "markdown": text }), text.trim_end());
    Ok(())
}
