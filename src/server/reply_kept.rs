//! What is kept of an answer: a list of all tokens of a vocabulary has megabytes, and a few are used.

use sha2::{Digest, Sha256};

use super::reply::{Reply, ReplyToken, WholeTop};
use super::request::Wanted;

/// The likeliest tokens that are kept besides those that are wanted: a local tokenizer is compared by
/// them.
const LIKELIEST: usize = 20;
/// Shorter lists are kept as they are.
const SHORT: usize = 32;

impl Reply {
    /// Leaves out what nothing is read from: of long lists all but the likeliest and those that are
    /// wanted, with a digest of the whole list.
    pub(super) fn reduce(&mut self, wanted: &Wanted) {
        for token in &mut self.prompt {
            token.top = Vec::new();
        }
        for token in &mut self.written {
            token.reduce(wanted);
        }
    }
}

impl ReplyToken {
    fn reduce(&mut self, wanted: &Wanted) {
        // Maps have no order.
        self.top.sort_by(|a, b| {
            b.logprob.total_cmp(&a.logprob).then_with(|| (&a.text, a.id).cmp(&(&b.text, b.id)))
        });
        if self.top.len() <= SHORT {
            return;
        }
        let mut hash = Sha256::new();
        for top in &self.top {
            hash.update((top.text.len() as u64).to_le_bytes());
            hash.update(&top.text);
            hash.update(top.id.unwrap_or(u32::MAX).to_le_bytes());
            hash.update(top.logprob.to_le_bytes());
        }
        let digest = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        self.whole = Some(WholeTop {
            num: self.top.len(),
            least: self.top.iter().map(|top| top.logprob).fold(0.0, f64::min),
            sum: self.top.iter().map(|top| top.logprob.exp()).sum(),
            digest,
        });
        let mut at = 0;
        self.top.retain(|top| {
            at += 1;
            at <= LIKELIEST || wanted.has(&top.text, top.id)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::TopToken;

    #[test]
    fn of_a_long_list_what_is_used_is_kept() {
        let top = |id: u32| TopToken {
            text: format!(" w{id}"),
            id: Some(id),
            logprob: -f64::from(id) / 100.0 - 7.0,
        };
        let whole: Vec<TopToken> = (0..5000).rev().map(top).collect();
        let sum: f64 = whole.iter().map(|top| top.logprob.exp()).sum();
        let token = ReplyToken { top: whole, ..ReplyToken::default() };
        let reply = Reply { written: vec![token], ..Reply::default() };
        let wanted = Wanted { ids: vec![4321], words: vec!["w2345".into()] };
        let mut kept = reply.clone();
        kept.reduce(&wanted);
        let token = &kept.written[0];
        let ids: Vec<u32> = token.top.iter().filter_map(|top| top.id).collect();
        // The likeliest; what the word begins with; and those that are wanted.
        let expected: Vec<u32> = (0..20).chain([23, 234, 2345, 4321]).collect();
        assert_eq!(ids, expected);
        let all = token.whole.as_ref().unwrap();
        assert_eq!((all.num, all.least), (5000, -56.99));
        assert!((all.sum - sum).abs() < 1e-12);
        assert!(serde_json::to_string(&kept).unwrap().len() < 2000);
        // The order of a map is nobody's.
        let mut turned = reply.clone();
        turned.written[0].top.reverse();
        turned.reduce(&wanted);
        assert_eq!(turned, kept);
        // Another list, another digest, though what is kept is the same.
        let mut other = reply;
        other.written[0].top[0].logprob -= 1.0;
        other.reduce(&wanted);
        assert_ne!(other.written[0].whole.as_ref().unwrap().digest, all.digest);
    }
}
