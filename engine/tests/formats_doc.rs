//! `docs/formats.md` says what the modules that define the formats say, table row by table row.

const MODULES: [&str; 12] = [
    "src/format/segment.rs",
    "src/format/frame.rs",
    "src/format/index.rs",
    "src/format/facts.rs",
    "src/format/heap.rs",
    "src/format/cache.rs",
    "src/message/extras.rs",
    "src/catalog/mod.rs",
    "src/archive/format.rs",
    "src/catalog/figures.rs",
    "src/fulltext/segment.rs",
    "src/uidls.rs",
];

/// Link brackets and paths differ between the two; nothing else may.
fn plain(row: &str) -> String {
    row.replace("[`", "`").replace("`]", "`").replace("crate::", "")
}

#[test]
fn every_table_row_of_the_code_is_in_the_document() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join("../docs/formats.md")).unwrap();
    let rows: Vec<String> = document.lines().map(plain).collect();
    let mut seen = 0;
    for module in MODULES {
        let source = std::fs::read_to_string(root.join(module)).unwrap();
        for line in source.lines().take_while(|l| l.starts_with("//!")) {
            let Some(row) = line.strip_prefix("//! ").filter(|l| l.starts_with('|')) else {
                continue;
            };
            assert!(rows.contains(&plain(row)), "{module}: not in docs/formats.md: {row}");
            seen += 1;
        }
    }
    assert!(seen > 100, "only {seen} rows seen: did the tables move?");
}
