//! What the bank must say, by going through the postings in the order in which they happened.

use std::collections::BTreeMap;

use super::topology::{Account, Charge, Posting};

/// Accounts and charges.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub accounts: BTreeMap<String, Account>,
    /// By account and posting.
    pub charges: Vec<(String, Charge)>,
}

pub fn answer(postings: &[(String, Posting)]) -> Answer {
    let mut ordered: Vec<_> = postings.iter().collect();
    ordered.sort_by_key(|(_, posting)| (posting.at, posting.id));
    let mut answer = Answer::default();
    for (name, posting) in ordered {
        let account = answer.accounts.remove(name).unwrap_or_default().post(posting);
        answer.charges.extend(account.charged().map(|charge| (name.clone(), charge.clone())));
        answer.accounts.insert(name.clone(), account);
    }
    answer.charges.sort();
    let accounts = std::mem::take(&mut answer.accounts).into_iter();
    answer.accounts = accounts.map(|(name, account)| (name, account.at_rest())).collect();
    answer
}
