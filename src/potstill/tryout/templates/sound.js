// Sounds: recorded or from a file, decoded by the browser, sent as numbers of one channel.
const send_sound = async (bytes) => {
  const context = new AudioContext();
  try {
    const sound = await context.decodeAudioData(bytes);
    const mixed = new Float32Array(sound.length);
    for (let channel = 0; channel < sound.numberOfChannels; channel += 1) {
      sound.getChannelData(channel).forEach((value, i) => { mixed[i] += value / sound.numberOfChannels; });
    }
    mark_current(null);
    await ask({ kind: "sound", rate: Math.round(sound.sampleRate), samples: base64(new Uint8Array(mixed.buffer)) });
  } catch (error) {
    say(`This sound cannot be decoded by the browser (${error.message}); choose a WAV, OGG or MP3 file.`, true);
  } finally {
    context.close();
  }
};
take = async (file) => send_sound(await file.arrayBuffer());

let recorder = null;
const record = place("record");
const stop_recording = () => { if (recorder && recorder.state === "recording") recorder.stop(); };

const start_recording = async () => {
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch (error) {
    say(`There is no microphone for this page (${error.message}); choose a file instead.`, true);
    return;
  }
  const parts = [];
  recorder = new MediaRecorder(stream);
  recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
  recorder.addEventListener("stop", async () => {
    stream.getTracks().forEach((track) => track.stop());
    record.textContent = "Record";
    record.setAttribute("aria-pressed", "false");
    await send_sound(await new Blob(parts).arrayBuffer());
  });
  recorder.start();
  setTimeout(stop_recording, 55000);
  record.textContent = "Stop";
  record.setAttribute("aria-pressed", "true");
  say("Recording. Press Stop when you have spoken.");
};
record.addEventListener("click", () => (recorder && recorder.state === "recording" ? stop_recording() : start_recording()));
