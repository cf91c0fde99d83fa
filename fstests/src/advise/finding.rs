//! What advice is made of, and its words.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// How bad it is. Danger comes before every cost; greater costs come first.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// Acknowledged mail may be lost, or mail will soon be refused.
    Danger,
    /// So many times more expensive than it need be.
    Cost(f64),
}

impl Weight {
    /// For sorting, the worst first.
    fn rank(self) -> f64 {
        match self {
            Weight::Danger => f64::MIN,
            Weight::Cost(factor) => -factor,
        }
    }
}

/// What one thing takes as it is, and what it would take as advised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// What was looked at: the same word before and after a change.
    pub id: String,
    /// What was measured, for people.
    pub what: String,
    /// Of both figures.
    pub unit: String,
    /// As it is.
    pub now: f64,
    /// As it would be; the same where nothing is to be changed.
    pub then: f64,
}

/// Something to change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// A word for it.
    pub id: String,
    /// Where.
    pub path: String,
    /// How bad.
    pub weight: Weight,
    /// What is wrong, in a line.
    pub title: String,
    /// The number that was measured.
    pub number: String,
    /// Why that is.
    pub reason: String,
    /// What the change risks.
    pub risk: String,
    /// What to type.
    pub command: String,
    /// The line for fstab, where it changes.
    #[serde(default)]
    pub fstab: String,
}

/// All that was said of some paths.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Advice {
    /// The worst first.
    pub findings: Vec<Finding>,
    /// Every measurement, with a finding or without.
    pub measured: Vec<Measurement>,
    /// What was looked at and is as it should be, or could not be looked at.
    pub notes: Vec<String>,
}

impl Advice {
    /// Puts the worst first.
    pub fn sort(&mut self) {
        self.findings.sort_by(|a, b| a.weight.rank().total_cmp(&b.weight.rank()));
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (number, finding) in self.findings.iter().enumerate() {
            let weight = match finding.weight {
                Weight::Danger => "DANGER".to_owned(),
                Weight::Cost(factor) => format!("costs {factor:.1} times"),
            };
            let Finding { path, title, number: measured, reason, risk, command, fstab, .. } =
                finding;
            let _ = writeln!(out, "{}. {weight}: {title} ({path})", number + 1);
            let _ = writeln!(out, "   measured: {measured}\n   why:      {reason}");
            let _ = writeln!(out, "   risk:     {risk}\n   do:       {command}");
            if !fstab.is_empty() {
                let _ = writeln!(out, "   fstab:    {fstab}");
            }
            out.push('\n');
        }
        if self.findings.is_empty() {
            out.push_str("Nothing is worth changing.\n");
        }
        for note in &self.notes {
            let _ = writeln!(out, "- {note}");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(id: &str, weight: Weight) -> Finding {
        Finding {
            id: id.into(),
            path: "/mail".into(),
            weight,
            title: "t".into(),
            number: "n".into(),
            reason: "r".into(),
            risk: "k".into(),
            command: "c".into(),
            fstab: String::new(),
        }
    }

    #[test]
    fn danger_comes_first_and_then_what_costs_most() {
        let mut advice = Advice {
            findings: vec![
                finding("a", Weight::Cost(1.5)),
                finding("b", Weight::Cost(9.0)),
                finding("c", Weight::Danger),
            ],
            ..Advice::default()
        };
        advice.sort();
        let order: Vec<&str> = advice.findings.iter().map(|f| f.id.as_str()).collect();
        assert_eq!(order, ["c", "b", "a"]);
        assert!(advice.text().starts_with("1. DANGER: t (/mail)"));
        assert!(!advice.text().contains("Nothing is worth changing"));
        assert!(Advice::default().text().starts_with("Nothing is worth changing"));
    }
}
