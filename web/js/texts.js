// The panels' words, in the languages of locales/. The page's own language setting picks one; English stands in.
import { app } from "../../../scripts/app.js";

export const LANGUAGES = ["en", "zh", "ja", "de", "fr", "es"];

/** @type {Record<string, string[]>} one text a language, in their order */
export const TEXTS = {
  // Captions
  seen: ["seen", "画面", "見えるもの", "zu sehen", "à l’image", "se ve"],
  heard: ["heard", "声音", "聞こえるもの", "zu hören", "au son", "se oye"],
  anchors: ["anchors", "锚点", "アンカー", "Anker", "ancres", "anclas"],
  report: ["report", "报告", "レポート", "Bericht", "rapport", "informe"],
  silent: ["(silent)", "（无声）", "（無音）", "(stumm)", "(muet)", "(en silencio)"],
  none: ["(none)", "（无）", "（なし）", "(keiner)", "(aucun)", "(ninguno)"],
  editAnchors: [
    "Edit anchors…",
    "编辑锚点…",
    "アンカーを編集…",
    "Anker bearbeiten…",
    "Modifier les ancres…",
    "Editar anclas…",
  ],
  editAnchorsHint: [
    "Opens them in an Edit Anchors node, which then feeds the captions on",
    "在“编辑锚点”节点中打开，之后由该节点提供描述",
    "「アンカーを編集」ノードで開き、以後はそのノードがキャプションを渡します",
    "Öffnet sie in einem Knoten „Anker bearbeiten“, der danach die Texte weitergibt",
    "Les ouvre dans un nœud « Modifier les ancres », qui fournit ensuite les légendes",
    "Las abre en un nodo «Editar anclas», que después entrega las descripciones",
  ],
  useCaptions: [
    "Use these captions",
    "使用这些描述",
    "このキャプションを使う",
    "Diese Texte verwenden",
    "Utiliser ces légendes",
    "Usar estas descripciones",
  ],
  useCaptionsHint: [
    "Writes both texts as they stand here into the nodes that they feed, and cuts the links",
    "把这里的两段文字写入所连接的节点，并断开连线",
    "ここにある二つの文を接続先のノードに書き込み、リンクを外します",
    "Schreibt beide Texte, wie sie hier stehen, in die Knoten, die sie speisen, und trennt die Verbindungen",
    "Écrit les deux textes tels quels dans les nœuds qu’ils alimentent et coupe les liens",
    "Escribe ambos textos tal como están aquí en los nodos que alimentan y corta los enlaces",
  ],
  captionsUsed: [
    "Written into {nodes}. To let this node write again, connect its captions again.",
    "已写入 {nodes}。如要恢复由此节点提供描述，请重新连接。",
    "{nodes} に書き込みました。このノードに戻すには、キャプションをつなぎ直してください。",
    "In {nodes} geschrieben. Damit dieser Knoten wieder schreibt, die Texte neu verbinden.",
    "Écrites dans {nodes}. Pour que ce nœud écrive de nouveau, reconnecter ses légendes.",
    "Escritas en {nodes}. Para que este nodo vuelva a escribir, conectar de nuevo sus descripciones.",
  ],
  captionsUnused: [
    "No node with a text field takes these captions; connect them to Encode Captions.",
    "没有带文本框的节点接收这些描述；请把它们连接到“编码描述”。",
    "入力欄のあるノードがキャプションを受け取っていません。「キャプションをエンコード」につないでください。",
    "Kein Knoten mit einem Textfeld nimmt diese Texte; mit „Bild- und Tontext kodieren“ verbinden.",
    "Aucun nœud avec un champ de texte ne prend ces légendes ; les connecter à « Encoder les légendes ».",
    "Ningún nodo con campo de texto toma estas descripciones; conectarlas a «Codificar descripciones».",
  ],
  // Anchors
  place: ["place", "地点", "場所", "Ort", "lieu", "lugar"],
  background: ["background", "背景声", "背景音", "Hintergrund", "fond sonore", "fondo"],
  camera: ["camera", "镜头", "カメラ", "Kamera", "caméra", "cámara"],
  style: ["style", "风格", "スタイル", "Stil", "style visuel", "estilo"],
  mood: ["mood", "氛围", "雰囲気", "Stimmung", "ambiance", "ambiente"],
  order: ["order", "顺序", "順番", "Platz", "ordre", "orden"],
  from: ["from 0–1", "起 0–1", "開始 0–1", "von 0–1", "de 0–1", "desde 0–1"],
  to: ["to 0–1", "止 0–1", "終了 0–1", "bis 0–1", "à 0–1", "hasta 0–1"],
  who: ["who", "谁", "誰が", "wer", "qui", "quién"],
  cause: ["its cause", "声源", "音の原因", "Ursache", "sa cause", "su causa"],
  name: ["name", "名称", "名前", "Name", "nom", "nombre"],
  look: ["look", "外观", "見た目", "Aussehen", "aspect", "aspecto"],
  details: ["details", "细节", "細部", "Details", "détails", "detalles"],
  remove: ["Remove", "移除", "取り除く", "Entfernen", "Retirer", "Quitar"],
  happens: ["what happens", "发生什么", "起こること", "was geschieht", "ce qui se passe", "qué ocurre"],
  entities: ["who and what", "人与物", "人と物", "wer und was", "qui et quoi", "quién y qué"],
  around: ["all around", "环境", "全体", "ringsum", "tout autour", "alrededor"],
  addEvent: ["+ event", "+ 事件", "+ 出来事", "+ Ereignis", "+ événement", "+ suceso"],
  addEntity: ["+ entity", "+ 对象", "+ 対象", "+ Gegenstand", "+ entité", "+ entidad"],
  startEmpty: [
    "Start with empty anchors",
    "从空锚点开始",
    "空のアンカーから始める",
    "Mit leeren Ankern beginnen",
    "Commencer par des ancres vides",
    "Empezar con anclas vacías",
  ],
  linked: [
    "The anchors come from a link; cut it to edit them here.",
    "锚点来自连线；断开后可在此编辑。",
    "アンカーはリンクから来ています。ここで編集するにはリンクを外してください。",
    "Die Anker kommen über eine Verbindung; sie trennen, um hier zu bearbeiten.",
    "Les ancres viennent d’un lien ; le couper pour les modifier ici.",
    "Las anclas llegan por un enlace; cortarlo para editarlas aquí.",
  ],
  empty: [
    "No anchors yet. Run Expand Prompt and press “Edit anchors…”, or start here.",
    "还没有锚点。运行“扩展提示词”并按“编辑锚点…”，或在此开始。",
    "アンカーはまだありません。「プロンプトを展開」を実行して「アンカーを編集…」を押すか、ここで始めてください。",
    "Noch keine Anker. „Prompt ausbauen“ ausführen und „Anker bearbeiten…“ drücken, oder hier beginnen.",
    "Pas encore d’ancres. Exécuter « Développer le prompt » puis « Modifier les ancres… », ou commencer ici.",
    "Aún no hay anclas. Ejecutar «Ampliar prompt» y pulsar «Editar anclas…», o empezar aquí.",
  ],
  usable: [
    "These anchors can be used.",
    "这些锚点可以使用。",
    "このアンカーは使えます。",
    "Diese Anker sind brauchbar.",
    "Ces ancres sont utilisables.",
    "Estas anclas se pueden usar.",
  ],
  noAnswer: [
    "The server gave no answer about these anchors: {error}",
    "服务器没有答复这些锚点：{error}",
    "サーバーがこのアンカーについて応答しません: {error}",
    "Der Server hat zu diesen Ankern nichts geantwortet: {error}",
    "Le serveur n’a pas répondu au sujet de ces ancres : {error}",
    "El servidor no respondió sobre estas anclas: {error}",
  ],
  // Player
  seek: [
    "Click to go there",
    "点击跳转",
    "クリックでそこへ移動",
    "Klicken, um dorthin zu springen",
    "Cliquer pour y aller",
    "Clic para ir ahí",
  ],
  noSound: [
    "{seconds} s, no sound",
    "{seconds} 秒，无声音",
    "{seconds} 秒、音声なし",
    "{seconds} s, kein Ton",
    "{seconds} s, sans son",
    "{seconds} s, sin sonido",
  ],
  noOnset: [
    "{seconds} s, 0 onsets",
    "{seconds} 秒，无起音点",
    "{seconds} 秒、発音なし",
    "{seconds} s, 0 Einsätze",
    "{seconds} s, 0 attaque",
    "{seconds} s, 0 comienzos",
  ],
  oneOnset: [
    "{seconds} s, 1 onset at {times} s",
    "{seconds} 秒，1 个起音点：{times} 秒",
    "{seconds} 秒、発音 1 回: {times} 秒",
    "{seconds} s, 1 Einsatz bei {times} s",
    "{seconds} s, 1 attaque à {times} s",
    "{seconds} s, 1 comienzo en {times} s",
  ],
  onsets: [
    "{seconds} s, {count} onsets at {times} s",
    "{seconds} 秒，{count} 个起音点：{times} 秒",
    "{seconds} 秒、発音 {count} 回: {times} 秒",
    "{seconds} s, {count} Einsätze bei {times} s",
    "{seconds} s, {count} attaques à {times} s",
    "{seconds} s, {count} comienzos en {times} s",
  ],
  motionPeaks: [
    "motion peaks: {count}",
    "运动峰值：{count}",
    "動きの山：{count}",
    "Bewegungsspitzen: {count}",
    "pics du mouvement : {count}",
    "picos de movimiento: {count}",
  ],
  // Memory
  memory: ["memory", "内存", "メモリ", "Speicher", "mémoire", "memoria"],
  memoryFree: [
    "memory, {free} free",
    "内存，可用 {free}",
    "メモリ、空き {free}",
    "Speicher, {free} frei",
    "mémoire, {free} libres",
    "memoria, {free} libres",
  ],
  "stage encode video": ["encode video", "编码视频", "映像エンコード", "Bild kodieren", "encoder vidéo", "codif. vídeo"],
  "stage encode audio": ["encode audio", "编码音频", "音声エンコード", "Ton kodieren", "encoder audio", "codif. audio"],
  "stage encode": ["encode", "编码", "エンコード", "Kodieren", "encodage", "codificar"],
  "stage sample": ["sample", "采样", "サンプリング", "Sampling", "échantillonnage", "muestrear"],
  "stage decode video": ["decode video", "解码视频", "映像デコード", "Bild dekod.", "décoder vidéo", "decod. vídeo"],
  "stage decode audio": ["decode audio", "解码音频", "音声デコード", "Ton dekod.", "décoder audio", "decod. audio"],
};

/**
 * @param {string} key of TEXTS
 * @param {Record<string, string|number>} [values] what stands in braces in it
 * @returns {string} the text in the page's language
 */
export function t(key, values = {}) {
  const language = String(app.extensionManager?.setting?.get("Comfy.Locale")).split("-")[0];
  const text = TEXTS[key][Math.max(0, LANGUAGES.indexOf(language))];
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}
