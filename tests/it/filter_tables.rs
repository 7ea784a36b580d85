//! Published tables of answers, and which kinds of questions a filter loses.

use w2s::data::{Dataset, ParserName, Task};
use w2s::filter::{Rule, coverage, keep, read_published, write_published};
use w2s::run::SeedStream;
use w2s::score::TableGenerator;

use crate::cli::Place;
use crate::filter::{asking, filtered, questions, settings};

#[test]
fn the_published_table_comes_back_as_it_was() {
    let task = Task::load("hellaswag").unwrap().with_num_options(4);
    let (place, data) = questions(&task);
    let mut answered = 0;
    let mut generator = TableGenerator::new(|_: &str| {
        answered += 1;
        ["B", "(c) \"quoted\",\nof two lines", "", "A or B", " Answer: D because"][answered % 5]
            .to_owned()
    });
    let asking = asking(&task, &data.examples, 5, 0);
    let (answers, _) =
        asking.votes(ParserName::OptionLetter, 50, &mut generator, &mut |_| Ok(())).unwrap();
    let found =
        keep(&answers, Some(&data.examples), &settings(Rule::Quantile(0.5)), &SeedStream::new(0))
            .unwrap();
    let records: Vec<_> = found.kept.iter().chain(&found.dropped).collect();
    // Gold is the third option of each: its place among those shown is the target.
    let gold = |_: &str| Some("C".to_owned());
    let table = write_published(&answers, &records, Some(&data.examples), gold).unwrap();
    let text = String::from_utf8(table).unwrap();
    assert!(text.starts_with("ind,target,prompt,model_output,model_pred,entropy\n"), "{text}");
    let place_of_c = answers[0][0].option_order.iter().position(|&o| o == 2).unwrap();
    assert!(text.contains(&format!("\nq1,{place_of_c},")), "{text}");
    let path = place.write("table.csv", &text);
    let back = read_published(path.as_ref(), &task, Some(&data.examples)).unwrap();
    assert_eq!((back.answers, back.num_other_entropy), (answers, 0));
    let error = read_published(path.as_ref(), &task, None).unwrap_err();
    assert!(error.to_string().contains("--data FILE"), "{error}");
}

/// The tables of the other published data sets, as their scripts write them.
#[test]
fn published_tables_of_every_form_are_read() {
    let place = Place::new();
    let ethics = place.write(
        "e.csv",
        "input,is_short,label,prompt,model_output,model_pred,entropy\n\
         I ate.,True,0,p1,acceptable,0,0.6931\nI ate.,True,0,p2,eh,-1,0.6931\n\
         I hit.,True,1,p1,unacceptable,1,0.0\nI hit.,True,1,p2,unacceptable,1,0.5\n",
    );
    let task = Task::load("ethics-commonsense").unwrap();
    let found = read_published(ethics.as_ref(), &task, None).unwrap();
    let read: Vec<Vec<Option<&str>>> = found
        .answers
        .iter()
        .map(|rows| rows.iter().map(|row| row.answer.as_deref()).collect())
        .collect();
    assert_eq!(read, [vec![Some("acceptable"), None], vec![Some("unacceptable"); 2]]);
    assert_eq!(found.num_other_entropy, 1);
    assert_eq!(found.answers[1][0].id, "row-2");

    let sums = place.write(
        "g.csv",
        "original_question,original_answer,label,prompt,weak_label,model_pred,entropy\n\
         How many?,#### 8,8,p,8,8,0.6931\nHow many?,#### 8,8,p,x,-100000000,0.6931\n",
    );
    let found = read_published(sums.as_ref(), &Task::load("gsm8k").unwrap(), None).unwrap();
    assert_eq!(found.answers[0][0].answer.as_deref(), Some("8"));
    assert_eq!((found.answers[0][1].answer.as_deref(), found.num_other_entropy), (None, 0));

    let exams = place.write(
        "m.csv",
        "subject,input,prompt,target,model_output,model_pred,entropy\n\
         art,Which?,Q: Which?. A. red. B. blue. ### Answer:,B,B.,blue,0.0\n\
         art,Which?,Q: Which?. A. blue. B. red. ### Answer:,A,A.,blue,0.0\n",
    );
    let data =
        place.write("m.jsonl", "{\"question\": \"Which?\", \"choices\": [\"blue\", \"red\"]}\n");
    let task = Task::load("mmlu").unwrap();
    let data = Dataset::read(data, &task).unwrap();
    let found = read_published(exams.as_ref(), &task, Some(&data.examples)).unwrap();
    let orders: Vec<_> = found.answers[0].iter().map(|row| row.option_order.clone()).collect();
    assert_eq!(orders, [vec![1, 0], vec![0, 1]]);
    assert!(found.answers[0].iter().all(|row| row.answer.as_deref() == Some("A")));

    for (text, parts) in [
        (
            "ind,prompt\n1,p\n",
            vec![
                "lacks the columns `model_output or weak_label`, `model_pred`, `entropy`",
                "it has `ind`, `prompt`",
            ],
        ),
        (
            "input,prompt,model_output,model_pred,entropy\nWhich?,p,x,green,0\n",
            vec!["model_pred `green`", "t.csv`, line 2"],
        ),
        (
            "input,prompt,model_output,model_pred,entropy\nWho?,p,x,red,0\n",
            vec!["`Who?` of the table is not in the data"],
        ),
    ] {
        let path = place.write("t.csv", text);
        let error =
            read_published(path.as_ref(), &task, Some(&data.examples)).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}

#[test]
fn the_kinds_of_questions_that_were_lost_are_counted() {
    let task = Task::load("mmlu").unwrap();
    let place = Place::new();
    let text: String = (0..4)
        .map(|i| {
            let subject = if i < 2 { "art" } else { "law" };
            format!("{{\"id\": \"q{i}\", \"question\": \"{}?\", \"subject\": \"{subject}\", \"choices\": [\"x\", \"y\"]}}\n", "w".repeat(i + 1))
        })
        .collect();
    let data = Dataset::read(place.write("t.jsonl", &text), &task).unwrap();
    let found = filtered(&["AA", "AA", "AB", "AA"], &settings(Rule::MaxEntropy(0.1)));
    let kinds = coverage(&found, &data.examples, &task.answers.kinds, true);
    let told: Vec<String> =
        kinds.iter().map(|k| format!("{} {}: {}/{}", k.by, k.kind, k.num_kept, k.num)).collect();
    assert_eq!(
        told,
        [
            "subject art: 2/2",
            "subject law: 1/2",
            "length 1 shortest quarter: 1/1",
            "length 2 shorter quarter: 1/1",
            "length 3 longer quarter: 0/1",
            "length 4 longest quarter: 1/1",
            "weak label A: 3/4",
        ]
    );
}
