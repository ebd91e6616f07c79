//! What a broker answered to each case, what Apache Kafka answered to the same, and which differences are meant.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};

/// Method and case.
type Case = (String, String);

/// By method and case.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answers(BTreeMap<Case, String>);

impl Answers {
    /// Lines of `METHOD TAB CASE TAB ANSWER`; `#` begins a comment.
    pub fn parse(text: &str) -> Result<Self> {
        let mut answers = BTreeMap::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let mut parts = line.splitn(3, '\t');
            let (method, case, answer) = (parts.next(), parts.next(), parts.next());
            let (Some(method), Some(case), Some(answer)) = (method, case, answer) else {
                bail!("not METHOD, CASE and ANSWER with tabs between: {line:?}");
            };
            let before = answers.insert((method.to_owned(), case.to_owned()), answer.to_owned());
            if before.is_some() {
                bail!("{method} has the case {case:?} twice");
            }
        }
        Ok(Self(answers))
    }

    pub fn text(&self) -> String {
        let line = |((method, case), answer): (&Case, &String)| format!("{method}\t{case}\t{answer}\n");
        self.0.iter().map(line).collect()
    }

    /// All methods of either.
    pub fn methods(&self, other: &Self) -> BTreeSet<String> {
        self.0.keys().chain(other.0.keys()).map(|(method, _)| method.clone()).collect()
    }

    /// What differs of a method from what is `expected`, in words; meant differences do not count.
    pub fn differences(&self, method: &str, expected: &Self, meant: &Meant) -> Vec<String> {
        let of_method = |answers: &Self| -> BTreeSet<String> {
            answers.0.keys().filter(|(of, _)| of == method).map(|(_, case)| case.clone()).collect()
        };
        let cases = of_method(self).union(&of_method(expected)).cloned().collect::<BTreeSet<_>>();
        let differs = |case: String| {
            let key = (method.to_owned(), case);
            let (ours, theirs) = (self.0.get(&key), expected.0.get(&key));
            let word = |answer: Option<&String>| answer.map_or_else(|| "nothing".to_owned(), Clone::clone);
            match (ours == theirs, meant.reason(&key.0, &key.1)) {
                (true, None) | (false, Some(_)) => None,
                (true, Some((_, true))) => None,
                (true, Some((reason, false))) => {
                    Some(format!("{method}: {}: is as Kafka's, but meant to differ: {reason}", key.1))
                }
                (false, None) => Some(format!(
                    "{method}: {}:\n    ours   {}\n    Kafka's {}",
                    key.1,
                    word(ours),
                    word(theirs)
                )),
            }
        };
        cases.into_iter().filter_map(differs).collect()
    }
}

/// The differences that are meant: a method, a case (or the beginning of some, with `*` behind it), and why.
#[derive(Debug, Default)]
pub struct Meant(Vec<(String, String, String)>);

impl Meant {
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let row = |line: &str| {
            let mut parts = line.splitn(3, '\t').map(str::to_owned);
            let row = (|| Some((parts.next()?, parts.next()?, parts.next()?)))();
            row.with_context(|| format!("not METHOD, CASE and REASON with tabs between: {line:?}"))
        };
        Ok(Self(lines.map(row).collect::<Result<_>>()?))
    }

    /// Why a case may differ, and whether others may under the same reason.
    fn reason(&self, method: &str, case: &str) -> Option<(&str, bool)> {
        let fits = |(of, pattern, _): &&(String, String, String)| {
            of == method
                && match pattern.strip_suffix('*') {
                    Some(begin) => case.starts_with(begin),
                    None => case == pattern,
                }
        };
        self.0.iter().find(fits).map(|(_, pattern, reason)| (reason.as_str(), pattern.ends_with('*')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(text: &str) -> Answers {
        Answers::parse(text).expect("read")
    }

    #[test]
    fn only_what_differs_and_is_not_meant_to_is_told() {
        let kafkas = answers("m\ta\t1\nm\tb\t2\nm\tc x\t3\nm\tc y\t4\nn\ta\t1\n");
        let ours = answers("m\ta\t1\nm\tb\t9\nm\tc x\t3\nn\ta\t7\n");
        let meant = Meant::parse("# why\nm\tb\tours is kinder\nm\tc *\tabsent here\n").expect("read");
        assert_eq!(ours.differences("m", &kafkas, &meant), Vec::<String>::new());
        assert_eq!(ours.differences("m", &kafkas, &Meant::default()).len(), 2);
        assert_eq!(ours.differences("n", &kafkas, &meant).len(), 1);
        let stale = Meant::parse("m\ta\tit was otherwise once\n").expect("read");
        assert!(ours.differences("m", &kafkas, &stale).iter().any(|line| line.contains("meant to differ")));
        assert_eq!(ours.methods(&kafkas).len(), 2);
    }

    #[test]
    fn what_was_written_is_read_as_the_same_and_nonsense_is_refused() {
        let text = "m\ta b\t{x=1, y=!NoSuchThing}\nn\tc\t\n";
        assert_eq!(answers(text).text(), text);
        assert!(Answers::parse("m\tonly two\n").is_err());
        assert!(Answers::parse("m\ta\t1\nm\ta\t2\n").is_err());
        assert!(Meant::parse("m\ta\n").is_err());
    }
}
