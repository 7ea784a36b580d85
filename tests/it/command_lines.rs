//! A typed job and the command line that comes to it: each can be had from the other.

use std::collections::BTreeSet;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command, CommandFactory, Parser};
use serde_json::Value;
use w2s::pipeline::{Job, LabelJob, ModelOptions, RunOptions};
use w2s::recipe::Recipe;

use crate::cli::{Place, good, has, strs, text, w2s};
use crate::loop_runs::args;

/// A command line, as the program reads it.
#[derive(Debug, Parser)]
#[command(name = "w2s")]
struct Line {
    #[command(subcommand)]
    job: Job,
}

fn parse(words: &[String]) -> Job {
    Line::try_parse_from(words).unwrap_or_else(|e| panic!("{words:?}: {e}")).job
}

fn split(line: &str) -> Vec<String> {
    shell_words::split(line).unwrap()
}

/// Printing what was read and reading what was printed changes nothing.
fn goes_round(words: &[String]) -> Vec<String> {
    let job = parse(words);
    let printed = job.command_line();
    let again = parse(&printed);
    assert_eq!(format!("{again:?}"), format!("{job:?}"), "{words:?} was printed as {printed:?}");
    assert_eq!(again.command_line(), printed);
    printed
}

const MODEL: &str = "--model m --adapter a --device cuda:0,cuda:1 --dtype bf16 --max-context 4096 \
    --pack-tokens 512 --memory 3.3G --threads 4";
const SERVER: &str = "--route top-k --top-k 5 --max-misses 0.1 --tokenizer t.json --api-key-file k \
    --concurrency 2 --requests-per-second 1.5 --deadline 60 --retries 3 --response-cache off \
    --prices p.toml --max-cost 2.5";
const HELD_OUT: &str = "--test t --gold g --demonstrations d --out o";

/// Lines with every option of every command; `MODEL`, `SERVER` and `HELD_OUT` stand for theirs.
const LINES: &[&str] = &[
    "label MODEL SERVER --task sentiment --data d.jsonl --field text=a --field 'b=c d' --id n --limit 100 --out o --resume --seed 7 \
        --method zero-shot-chat --prompt-variant v --calibrate content-free \
        --prior negative=0.1,positive=0.9 --order halving --trees 2 --anchors 3 --leaf-block 4 \
        --num-demonstrations all --preset icm-paper --alpha 30 --num-seed 8 --init zero-shot \
        --iterations 100 --run-all-iterations=false --stop-on-collapse 0.95 --batch-size 64 \
        --objective log-odds --prequential-orders 2 --aggregate sum \
        --consistency contradiction,implication --consistency-fix-iterations 5 --schedule paper \
        --initial-temperature 5 --final-temperature 1e-3 --beta 1.5 --decay 0.9 \
        --renew-order-every 10 --parallel-proposals 2 --block auto --restarts 3 --no-order-check \
        --null-permutations 0",
    "label --model http://localhost:8000/v1#NAME --task 'my task.toml' --data 'it'\\''s.jsonl' --ids a \
        --ids b --out o --force --method few-shot --demonstrations x --num-demonstrations 6 \
        --auto-alpha 3 --gold g --gold-column c --rounds 2 --tensor_parallel_size 1 \
        --gpu_memory_utilization 0.9 --consistency leaky-reference --route auto",
    "label --testbed truthfulQA --model m --device cpu --memory 800M --data d --out o --K 10 \
        --initial_T 10 --final_T 0.01 --scheduler exp --consistency_fix_K 1 --num_seed 2 \
        --batch_size 8 --max_model_len 100 --max_num_batched_tokens 64 --run-all-iterations \
        --alpha=-5 --prompt-variant='' --init golden --calibrate none --order dataset \
        --objective prequential --consistency none",
    "filter --entropy MODEL SERVER --quantile 0.3 --do-sampling --validation-fraction 0.1 \
        --weight-by icm-margin --temperature 0.5 --labels l --task t --data d --field a=b --id n --limit 5 \
        --variants option-orders --num-variants 3 --answers soft --calibrate batch-mean-prob \
        --prior estimated --parser option-letter --max-new-tokens 10 --prompt-variant v --out o \
        --resume --seed 3 --export-csv e.csv",
    "filter --entropy --model m --max-entropy 1e-300 --task t --data d --ids i --out o --force",
    "filter --entropy --from a.jsonl --keep-fraction 0.3 --task t --out o",
    "relabel MODEL SERVER --task t --data d --field a=b --id n --labels a --labels b --ids i --prompt-variant v --by drop \
        --margin 0.5 --calibrate batch --prior equal --out o --resume --seed 18446744073709551615",
    "relabel --model m --task t --data d --labels a --out o --force",
    "score MODEL SERVER --input i.jsonl",
    "train MODEL --task t --data d --field a=b --id n --labels l --labels k --weights w --missing-weight 0 --soft-labels \
        --limit 5 --prompt-variant v --max-tokens 100 --too-long drop --out o --force --seed 2 \
        --checkpoint-steps 5 --checkpoint-minutes 0.5 --join-timeout 3 --peer-timeout 4.5 \
        --loss product --normalise sequence --aux 0.3 --aux-warmup 0.2 --powers 1,0.5 --lora-r 8 \
        --lora-alpha 16 --lora-dropout 0.1 --target-modules q_proj,v_proj --rslora --full --lr 2e-4 \
        --schedule constant --warmup-steps 5 --epochs 2 --batch-size 8 --weight-decay 0.1 --clip 0.5 \
        --micro-batch 2 --recompute --validation 0.1 --validate-every 10 --best --patience 3",
    "train --model m --task t --data d --labels l --out o --engine trl --launcher 'accelerate launch'",
    "train r --model m --out o",
    "train --model m --task t --data d --labels l --out o --engine trl --python p/bin/python",
    "train --model m --task t --data d --answers a --reweight --sample s --temperature 0.3 --ids i \
        --gold g --gold-column c --out o --resume --gradient-checkpointing",
    "loop r.toml --model m --device cpu --dtype f32 --max-context 100 --pack-tokens 64 --memory 1G \
        --threads 2 --task t --data d --field a=b --id n --batches 2 --held-out 0.2 --later predict --filter --reweight \
        --relabel flip --relabel-margin 0.5 --cross-fit --max-flip-rate 1 --min-class-entropy 0 \
        --min-agreement 0 --set label.alpha=30 --set train.lr=2e-4 --out o --resume --seed 4",
    "loop --model m --labeller http://localhost:8000/v1#NAME --labeller-folder f --force",
    "reproduce w2s-classic --scale small --set model=m --set seed=0,1 --data-dir d --out o --dry-run \
        --reuse r",
    "reproduce",
    "plan w2s-classic --scale small --set model=m --data-dir d --measure 0 --hours 2.5 --json",
    "plan --measure 1 -- label --model m --out=o -- x",
    "merge MODEL --out o --force",
    "merge r",
    "eval r/0 r/1 --gold g --gold-column a,b --per-label --basins b --export-csv e \
        --basin-agreement 0.8",
    "eval HELD_OUT MODEL SERVER --demonstration-data x --num-demonstrations 5 --noise-accuracy 0.8 \
        --noise-by label --task t --field a=b --id n --calibrate none --prior equal --seed 3 --resume",
    "eval HELD_OUT --force",
    "eval --gold g -- -run",
    "compare --method a=r/0,r/1 --method b=r/2 --weak weak=w --ceiling c --gold g --gold-column a,b \
        --task t --published naive=78.4 --published a=1 --resamples 100 --seed 1 --out o --force",
    "report r s --basins b --comparison c --gold g --gold-column column --width 3.25in --out o",
    "data pull sentiment --split test --config c --revision v2 --out o --refresh",
    "data pull owner/set --file data/train.parquet",
    "data draw --data d --part gold=48 --part weak=240 --max-chars 120 --where category=business \
        --where a=b=c --group-column g --task t --out o --resume --seed 9",
    "data draw --data d --part a=1 --out o --force",
    "explain r MODEL SERVER --data d --num-examples 3 --max-characters 100 --max-new-tokens 20 --seed 1 \
        --force",
    "audit draw r --guarantee 0.1@0.9 --budget 60 --share 0.5 --error-rate 0.2 --show-labels --seed 3 \
        --data d",
    "audit certify r --answers a.csv --data d",
    "export r --format csv --out o.csv --guarantee 0.1@0.95",
    "export r --format dpo --base-model b --out o",
    "export r --format llama-factory --base-model b --training t --out o --data d --seed 5 --force \
        --guarantee 0.05@0.95",
];

fn whole(line: &str) -> Vec<String> {
    let text = line.replace("HELD_OUT", HELD_OUT).replace("MODEL", MODEL).replace("SERVER", SERVER);
    split(&format!("w2s {text}"))
}

/// Adds what is given on a command line, as `label alpha`.
fn mark(name: &str, command: &Command, matches: &ArgMatches, seen: &mut BTreeSet<String>) {
    if let Some((inner, matches)) = matches.subcommand() {
        let command = command.find_subcommand(inner).unwrap();
        return mark(&format!("{name} {inner}"), command, matches, seen);
    }
    for arg in command.get_arguments() {
        let id = arg.get_id().as_str();
        if matches.value_source(id) == Some(ValueSource::CommandLine) {
            seen.insert(format!("{name} {id}"));
        }
    }
}

/// All that can be given.
fn options(name: &str, command: &Command) -> Vec<String> {
    let own = command.get_arguments().map(|arg| format!("{name} {}", arg.get_id()));
    let inner = command.get_subcommands();
    own.chain(inner.flat_map(|inner| options(&format!("{name} {}", inner.get_name()), inner)))
        .collect()
}

#[test]
fn every_option_goes_round() {
    let mut seen = BTreeSet::new();
    for line in LINES {
        let words = whole(line);
        goes_round(&words);
        let matches = Line::command().get_matches_from(words);
        mark("w2s", &Line::command(), &matches, &mut seen);
    }
    let missing: Vec<String> =
        options("w2s", &Line::command()).into_iter().filter(|name| !seen.contains(name)).collect();
    assert!(missing.is_empty(), "options that no line has: {missing:?}");
}

#[test]
fn every_command_of_a_recipe_goes_round() {
    let mut num = 0;
    for (name, _) in Recipe::built_in() {
        let recipe = Recipe::load(name).unwrap();
        for scale in recipe.scales.keys() {
            let steps = recipe.expand(scale, &[], Path::new("d"), Path::new("o")).unwrap().steps;
            for step in steps {
                goes_round(&[vec!["w2s".to_owned()], step.argv].concat());
                num += 1;
            }
        }
    }
    assert!(num > 100, "{num}");
}

#[test]
fn what_is_as_by_default_is_not_printed() {
    for (line, expected) in [
        (
            "label --out=o --data=d --seed 0 --task=claims --method icm --model=m --device auto",
            "label --model m --task claims --data d --out o",
        ),
        (
            "label --model m --testbed gsm8k --data d --out o --K 10 --alpha=-1 --run-all-iterations",
            "label --model m --task gsm8k-verification --data d --out o --alpha=-1 --iterations 10 \
                --run-all-iterations=true",
        ),
        (
            "train --task t --lr 0.00005 --epochs 3 --labels a --labels b --model m --data d --out o \
                --powers '1, .5' --recompute",
            "train --model m --task t --data d --labels a --labels b --out o --powers 1,0.5 --recompute",
        ),
        ("eval --gold-column a --gold-column b r --gold g", "eval r --gold g --gold-column a,b"),
        ("eval --gold g --per-label -- -r", "eval --gold g --per-label -- -r"),
        ("plan -- label --out x", "plan -- label --out x"),
        ("data draw --out o --part a=1 --data d", "data draw --data d --part a=1 --out o"),
    ] {
        assert_eq!(goes_round(&whole(line)), whole(expected), "{line}");
    }
    let label = LabelJob {
        model: ModelOptions::folder("m"),
        task: "claims".into(),
        data: "d".into(),
        run: RunOptions::new("o"),
        ..LabelJob::default()
    };
    let printed = Job::Label(Box::new(label)).command_line();
    assert_eq!(printed, whole("label --model m --task claims --data d --out o"));
}

/// The options of a loop that a step is made of are on the step's command line, in its manifest.
#[test]
fn steps_of_a_loop_have_the_command_lines_of_their_jobs() {
    let place = Place::new();
    let more = ["--batches", "1", "--held-out", "0", "--set", "label.prior=True=0.6,False=0.4"];
    good(&strs(&args(&place, "l", &more)));
    let words = |step: &str| -> Vec<String> {
        let text = place.read(&format!("l/round-1/{step}/manifest.json"));
        let manifest: Value = serde_json::from_str(&text).unwrap();
        serde_json::from_value(manifest["command_line"].clone()).unwrap()
    };
    let [model, data, out] = ["--model", "--data", "--out"].map(|name| {
        let words = args(&place, "l", &[]);
        words[words.iter().position(|word| word == name).unwrap() + 1].clone()
    });
    let begin = |command: &str| format!("w2s {command} --model '{model}'");
    let of = format!("--threads 1 --task claims --data '{data}'");
    let ids = format!("--ids '{out}/data/batch-1.jsonl'");
    let labels = format!("--labels '{out}/round-1/label/labels.jsonl'");
    let prior = "--prior True=0.6,False=0.4";
    for (step, expected) in [
        (
            "label",
            format!(
                "{} {of} {ids} --out '{out}/round-1/label' {prior} --trees 1 --num-seed 3 \
                    --iterations 8 --block 1 --no-order-check",
                begin("label")
            ),
        ),
        (
            "train",
            format!(
                "{} {of} {labels} --out '{out}/round-1/train' --checkpoint-steps 1 --lr 0.005 \
                    --epochs 2 --batch-size 4",
                begin("train")
            ),
        ),
        (
            "relabel",
            format!(
                "{} --adapter '{out}/round-1/train' {of} {labels} {prior} --out '{out}/round-1/relabel'",
                begin("relabel")
            ),
        ),
    ] {
        assert_eq!(words(step), split(&expected), "{step}");
    }
}

#[test]
fn a_loop_has_a_time() {
    let place = Place::new();
    let mut words = ["plan", "--measure", "1", "--json", "--"].map(str::to_owned).to_vec();
    words.extend(args(&place, "l", &[]));
    let planned: Value = serde_json::from_str(&good(&strs(&words))).unwrap();
    assert!(planned["seconds"].as_f64().unwrap() > 0.0, "{planned}");
    assert!(planned["peak_bytes"].as_u64().unwrap() > 0, "{planned}");
    assert!(planned["total"]["num_trained"].as_u64().unwrap() > 0, "{planned}");
    assert_eq!(planned["speeds"].as_object().unwrap().len(), 1, "{planned}");
    // The loop's own folder is left alone.
    assert!(!Path::new(&place.path("l")).exists());
}

/// A series goes on with a loop as with every other step.
#[test]
fn a_loop_of_a_recipe_is_continued() {
    let place = Place::new();
    let mut words = args(&place, "unused", &["--batches", "1", "--held-out", "0"]);
    let out = words.iter().position(|word| word == "--out").unwrap();
    words.drain(out..out + 2);
    let run = shell_words::join(&words);
    let recipe = place.write(
        "series.toml",
        format!(
            "title = \"a\"\nabout = \"b\"\nsource = \"c\"\n[scale.small]\nabout = \"d\"\n[[steps]]\n\
             name = \"whole\"\nrun = \"\"\"{run}\"\"\"\n"
        ),
    );
    let out = place.path("o");
    let reproduce = || {
        let output = w2s(&["reproduce", &recipe, "--scale", "small", "--out", &out]);
        let said = text(&output.stderr);
        assert!(output.status.success(), "{said}");
        said
    };
    has(&reproduce(), &["labelled 8 examples in 1 rounds of 1"]);
    let labels = place.read("o/whole/labels.jsonl");
    has(&reproduce(), &["is complete; nothing to do"]);
    // As after a kill before the end.
    std::fs::remove_file(place.path("o/whole/timing.json")).unwrap();
    std::fs::remove_file(place.path("o/whole/labels.jsonl")).unwrap();
    has(&reproduce(), &["round-1/train: complete"]);
    assert_eq!(place.read("o/whole/labels.jsonl"), labels);
}
