//! The template with every field, for `plan new --help`; a test reads it back.

/// Shown by `plan new --help`.
pub(in crate::cli::plan) const HELP: &str = r#"Example:
  consilium plan new --template template.toml --roster roster.toml --model models/minilm --out plan.toml

A template with every field. Lines that begin with # show a default; unknown fields are refused.

  job = "chapters"
  rounds = 60                      # each spends privacy

  [model]
  name = "sentence-transformers/all-MiniLM-L6-v2"   # for people
  pooling = "mean"                 # or "cls"; "none" with kind = "next-token"
  max_tokens = 64                  # texts are cut; more costs time

  [task]
  labels_file = "labels.txt"       # one a line, beside the template; or labels = ["…", "…"]
  # kind = "single-label"          # "multi-label"; "next-token", which has no labels and needs a causal decoder
  # class_weights = []             # one for each label; [] weighs all alike
  # max_records_per_patient = 1    # later ones are left out

  [cohort]
  # organizations = 5              # n: the roster's
  # colluders = 1                  # t_c: max(1, ⌊(n−1)/3⌋)
  # min_survivors = 4              # m_min: ⌊(n + t_c)/2⌋ + 1; more costs availability, and less noise is needed
  # allow_no_colluders = false     # must be true for colluders = 0

  [privacy]
  # unit = "patient"               # whom the guarantee protects: "patient", "patient-local", "organization"; see below
  # note = ""                      # what a record stands for; shown wherever ε is
  epsilon = 6.0                    # the job's budget
  delta = 1e-5                     # below one over the number of patients
  sampling_rate = 0.05             # q: probability with which a patient is drawn into a round's lot
  expected_lot = 512.0             # patients drawn in a round by all together: q × all patients
  largest_lot = 128.0              # by the largest organization
  # clip = 1.0                     # norm of one patient's gradient
  # noise_multiplier = 1.03        # z: the least that keeps epsilon for all rounds and a reserve

  [encoding]
  # scale = 1024.0                 # ring units per unit of gradient: least power of two ≥ 4·√d / clip
  # ring_bits = 21                 # w: the least that fits
  # metrics_share = 0.05           # part of the squared norm that loss and accuracy ride on
  # loss_max = 7.0                 # losses above count as this: ⌈2·ln(labels)⌉; multi-label 2, next-token 12
  # rounding_beta = 0.01           # how often a rounding is drawn again

  [optimizer]
  kind = "adam"                    # or kind = "sgd" with learning_rate alone
  learning_rate = 0.02
  beta1 = 0.9
  beta2 = 0.999
  epsilon = 1e-8

  [evaluation]
  organization = "site-1"          # who evaluates the public test set
  # every_rounds = 5
  # max_examples = 1000

  [deadlines]                      # seconds
  # wait_s = 600
  # advertise_s = 30
  # share_s = 30
  # input_s = 600                  # train and upload
  # vote_s = 30
  # unmask_s = 30
  # grace_s = 10                   # how long a closed connection is waited for
  # upload_grace_s = 600           # the same in the middle of an upload: its ε is spent, and it goes on where it stopped

  [retries]
  # max_attempts = 2               # a round's; each spends privacy: from 2 on, epsilon must pay for a tenth more

  [adapter]
  # mode = "ffa"                   # B is trained, A drawn once and frozen; "alternate": in turns; "both": at once
  rank = 8
  alpha = 16.0
  # rslora = false
  target_modules = ["query", "value"]   # or one pattern over whole names, as in peft; [] trains the head alone
  # layers = [4, 5]                # all
  # start = "result/adapter"       # a PEFT folder to go on from, and the head.safetensors beside it: drawn anew
  # local = []                     # ["head"]: every organization trains a head of its own, and the factors alone are shared
  # dropout = 0.0                  # lora_dropout; not where patients are protected
  # seed = "…"                     # 64 hexadecimal digits, public: drawn

  # [[hours]]                      # one entry or more for an organization that is not always there
  # organization = "site-1"
  # from = "08:00"                 # UTC
  # to = "18:00"                   # before from: the next day's

  # [[data]]                       # what an organization declares about its data; stands in every adapter's manifest
  # organization = "site-1"
  # description = "discharge letters, cardiology, 2019 to 2024"
  # basis = "ethics vote 12/2025"

  # [retention]
  # masked_inputs_h = 720          # kept so long for auditors, at the cost of disk space; by default not at all

For a trainer of the organizations' own (training.trainer = "external" in their clients), any model: instead of rank, alpha and
target_modules every tensor, and --model may be left out; mode means nothing then:

  [[adapter.tensor]]
  name = "weight"
  shape = [3, 256]
  bound = 0.0                      # it starts uniformly within ±bound, from the seed; 0: at zero
  trained = true

Where organizations send a change of weights (unit = "patient-local", "organization" or "none"), optimizer.kind is "fedavg"
(with learning_rate alone), "fedavgm" (with learning_rate and momentum) or "adam", and:

  [privacy.local]
  steps = 4                        # of each organization in a round; each spends privacy in patient-local
  learning_rate = 0.5
  # proximal = 0.1                 # FedProx's μ: holds local steps to where the round starts; by default not at all
  # update_clip, update_scale      # patient-local: norm and ring units of what is sent; from the noise

organization has no expected_lot and no largest_lot, patient-local no largest_lot. unit = "none" adds no noise and protects nobody:
it has no epsilon, delta, noise_multiplier or lots, and needs i_accept_no_privacy = true."#;
