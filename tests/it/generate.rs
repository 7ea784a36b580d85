//! Writing text, against transformers' greedy tokens and laws of sampling.

use tch::{Device, Kind};
use w2s::lm::{
    Decoder, Finish, GenerateOptions, Generated, NewTokens, Sampling, Tokenizer, generate,
};
use w2s::run::SeedStream;

use crate::common::{GoldenPrompt, chain, golden, tiny};

struct Writer {
    decoder: Decoder,
    tokenizer: Tokenizer,
    golden: Vec<GoldenPrompt>,
}

impl Writer {
    fn open(family: &str) -> Self {
        let folder = tiny(family);
        Self {
            decoder: Decoder::load(&folder, Device::Cpu, Kind::Float).unwrap(),
            tokenizer: Tokenizer::open(&folder).unwrap(),
            golden: golden(&folder),
        }
    }

    fn write(&self, prompts: &[&str], options: &GenerateOptions) -> Vec<Generated> {
        let prompts: Vec<String> = prompts.iter().map(|p| (*p).to_owned()).collect();
        let streams = SeedStream::new(11);
        generate(&self.decoder, &self.tokenizer, &prompts, options, streams).unwrap()
    }

    fn texts(&self) -> Vec<&str> {
        self.golden.iter().map(|p| p.text.as_str()).collect()
    }
}

fn greedy(max_new_tokens: usize) -> GenerateOptions {
    let (end_tokens, stop) = (Vec::new(), Vec::new());
    GenerateOptions {
        max_new_tokens,
        max_context_tokens: None,
        sampling: Sampling::Greedy,
        end_tokens,
        stop,
        add_special_tokens: true,
    }
}

/// The fixtures' tokens were written by transformers one prompt at a time; here the prompts, of
/// different lengths, are written side by side.
#[test]
fn a_batch_writes_what_transformers_writes_alone() {
    for family in
        ["llama", "mistral", "gemma3_text", "qwen2", "qwen3", "olmo2", "phi3", "gpt2", "gpt_neox"]
    {
        let writer = Writer::open(family);
        assert!(writer.tokenizer.prefix().is_empty(), "the fixtures have no begin token");
        let out = writer.write(&writer.texts(), &greedy(12));
        for (text, prompt) in out.iter().zip(&writer.golden) {
            assert_eq!(text.ids, prompt.greedy, "{family} after {} tokens", prompt.ids.len());
            assert_eq!(text.finish, Finish::Length);
        }
        // A prompt that begins like the one before it, and one that is the same.
        let long = format!("{} and on", writer.golden[0].text);
        let [first, second, third] =
            [writer.golden[0].text.as_str(), &long, writer.golden[0].text.as_str()];
        let shared = writer.write(&[first, second, third], &greedy(12));
        assert_eq!(shared[0].ids, writer.golden[0].greedy);
        assert_eq!(shared[2].ids, writer.golden[0].greedy);
        assert_eq!(shared[1], writer.write(&[second], &greedy(12))[0]);
    }
}

#[test]
fn texts_end_where_they_should() {
    let writer = Writer::open("llama");
    let whole = writer.write(&writer.texts(), &greedy(12));
    // One sequence ends early; the others must not notice.
    let end = whole[1].ids[2];
    let options = GenerateOptions { end_tokens: vec![end], ..greedy(12) };
    let out = writer.write(&writer.texts(), &options);
    for (cut, whole) in out.iter().zip(&whole) {
        let at = whole.ids.iter().position(|&id| id == end);
        assert_eq!(cut.ids, whole.ids[..at.unwrap_or(12)]);
        assert_eq!(cut.finish == Finish::EndToken, at.is_some());
    }
    let text = &whole[0].text;
    let middle: String = text.chars().skip(3).take(2).collect();
    let options = GenerateOptions { stop: vec![middle.clone()], ..greedy(12) };
    let stopped = &writer.write(&writer.texts(), &options)[0];
    assert_eq!(stopped.finish, Finish::Stop);
    assert_eq!(stopped.text, text[..text.find(&middle).unwrap()]);
    // Length: of the text, and of the context (gpt2 has 512 learned positions and not one more).
    assert!(writer.write(&["a", "b"], &greedy(0))[1].ids.is_empty());
    let gpt2 = Writer::open("gpt2");
    let long = "word ".repeat(2000);
    let tokens = gpt2.tokenizer.encode(&long).unwrap();
    let near = &long[..tokens.ends[507]];
    let num = gpt2.tokenizer.encode(near).unwrap().ids.len();
    let out = gpt2.write(&[near, "short"], &greedy(40));
    assert_eq!(out[0].ids.len(), 512 - num);
    assert_eq!((out[0].finish, out[1].ids.len()), (Finish::Length, 40));
    let prompts = [long];
    let streams = SeedStream::new(0);
    let error =
        generate(&gpt2.decoder, &gpt2.tokenizer, &prompts, &greedy(1), streams).unwrap_err();
    assert!(error.message().contains("prompt 1"), "{error}");
}

#[test]
fn sampling_follows_the_distribution_and_the_seed() {
    let writer = Writer::open("llama");
    let text = writer.golden[0].text.as_str();
    let sampled = |temperature, max_new_tokens| GenerateOptions {
        sampling: Sampling::Temperature(temperature),
        ..greedy(max_new_tokens)
    };
    // 1000 first tokens against the model's own probabilities.
    let num = 1000;
    let out = writer.write(&vec![text; num], &sampled(0.7, 1));
    let ids = &writer.golden[0].ids;
    let parents = chain(ids.len());
    let mut cache = writer.decoder.new_cache();
    let new = NewTokens { ids, parents: &parents };
    let _no_grad = tch::no_grad_guard();
    let x_ld = writer.decoder.forward(new, &mut cache).unwrap();
    let last = x_ld.narrow(0, ids.len() as i64 - 1, 1);
    let p_v = (writer.decoder.logits(&last) / 0.7).softmax(-1, Kind::Double).squeeze_dim(0);
    let (top, indices) = p_v.topk(4, 0, true, true);
    for k in 0..4 {
        let (p, id) = (top.double_value(&[k]), indices.int64_value(&[k]) as u32);
        let count = out.iter().filter(|text| text.ids == [id]).count() as f64;
        let sigma = (num as f64 * p * (1.0 - p)).sqrt();
        assert!((count - num as f64 * p).abs() < 4.0 * sigma, "token {id}: {count}, p {p}");
    }
    // The same seed writes the same, whatever else is written beside it.
    let many = writer.write(&writer.texts(), &sampled(1.0, 10));
    assert_eq!(many[0], writer.write(&[text], &sampled(1.0, 10))[0]);
    assert_ne!(many[0].ids, writer.golden[0].greedy[..10]);
    // Cold enough, the most likely token is the only one.
    assert_eq!(writer.write(&[text], &sampled(1e-4, 12))[0].ids, writer.golden[0].greedy);
}
